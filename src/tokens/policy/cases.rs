//! Runs `cases.txt`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::collections::BTreeMap;

use super::*;

const TABLE: &str = include_str!("cases.txt");

type Statements<'t> = BTreeMap<&'t str, &'t str>;

fn document(statement: &str) -> String {
    format!(r#"{{"Version":"2012-10-17","Statement":[{statement}]}}"#)
}

/// A cell's policies, each statement one of its own; a boundary and a bucket have one policy.
fn policies(cell: &str, statements: &Statements<'_>, one: bool, read: impl Fn(&str) -> Result<Policy, Malformed>) -> Vec<Policy> {
    if cell == "-" {
        return vec![];
    }
    let named: Vec<&str> = cell.split('+').map(|name| *statements.get(name).unwrap_or_else(|| panic!("{name}?"))).collect();
    let texts = if one { vec![named.join(",")] } else { named.into_iter().map(str::to_owned).collect() };
    texts.iter().map(|text| read(&document(text)).unwrap_or_else(|wrong| panic!("{text}: {wrong}"))).collect()
}

fn principal(who: &str) -> Option<Principal<'static>> {
    let account = Principal::account("a1", "ann", "111122223333");
    let acting = match who {
        "nobody" => return None,
        "account" => Acting::Account,
        "user" => Acting::User { id: "AIDAEVE", path: "/team/", name: "eve" },
        "role" => Acting::Role { id: "AROADEPLOY", path: "/", name: "deploy", session: "s1" },
        "federated" => Acting::Federated { name: "fred" },
        other => panic!("{other}?"),
    };
    Some(Principal { acting, ..account })
}

fn target(text: &str) -> Target<'_> {
    match text.split_once(':').filter(|(service, _)| service.starts_with("iam")) {
        Some(("iam", name)) => Target { service: "iam", account: "111122223333", name },
        Some((_, name)) => Target { service: "iam", account: "999922223333", name },
        None => Target::s3(text),
    }
}

/// Decides the cases of a row; answers how many there were and what went wrong.
fn run(row: &str, statements: &Statements<'_>) -> (usize, Vec<String>) {
    let cells: Vec<&str> = row.split('|').map(str::trim).collect();
    let [who, place, identity, boundary, session, bucket, asked, context, want] = cells.as_slice() else { panic!("{row}") };
    let own = *place == "own";
    let identities = policies(identity, statements, false, Policy::parse_identity);
    let boundary = policies(boundary, statements, true, Policy::parse_identity);
    let sessions = policies(session, statements, false, Policy::parse_identity);
    let bucket = policies(bucket, statements, true, |text| Policy::parse(text, "b"));
    let context: Vec<(&str, &str)> = context.split(',').filter_map(|pair| pair.trim().split_once('=')).collect();
    let values = |key: &str| context.iter().filter(|(k, _)| *k == key).map(|(_, v)| (*v).to_owned()).collect();
    let (mut cases, mut wrong) = (0, Vec::new());
    for who in who.split(',') {
        let bounds = Bounds {
            identity: (!["account", "nobody"].contains(&who)).then_some(identities.as_slice()),
            boundary: boundary.first(),
            session: (*session != "-").then_some(sessions.as_slice()),
        };
        for (action, resource) in asked.split(';').map(|asked| asked.trim().split_once(' ').unwrap()) {
            let request = Request { principal: principal(who), action, resource: target(resource), values: &values };
            let said = bucket.first().map_or(Said::Silent, |policy| policy.say(&request));
            let may = permits(combine(bounds, &request, said, own), own);
            cases += 1;
            if may != (*want == "allow") {
                wrong.push(format!("{who} {action} {resource}: {row}"));
            }
        }
    }
    (cases, wrong)
}

#[test]
fn requests_are_decided_as_aws_documents_it() {
    let lines = TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let (rows, definitions): (Vec<&str>, Vec<&str>) = lines.partition(|line| line.contains(" | "));
    let statements: Statements<'_> =
        definitions.iter().map(|line| line.split_once('=').unwrap()).map(|(name, text)| (name.trim(), text.trim())).collect();
    let (mut cases, mut wrong) = (0, Vec::new());
    for row in rows {
        let (ran, failed) = run(row, &statements);
        cases += ran;
        wrong.extend(failed);
    }
    assert!(wrong.is_empty(), "{} of {cases}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(cases >= 200, "{cases} cases");
}

#[test]
fn documents_of_identities_and_roles() {
    let statement = |text: &str| document(text);
    for (text, place, reason) in [
        (
            r#"{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"*"}"#,
            "Statement[0].Principal",
            "Policy document should not",
        ),
        (r#"{"Effect":"Allow","Action":"s3:*"}"#, "Statement[0]", "Missing required field Resource"),
        (r#"{"Effect":"Allow","Action":"s3","Resource":"*"}"#, "Statement[0].Action", "Policy has invalid action"),
        (r#"{"Effect":"Allow","Action":"*:*","Resource":"*"}"#, "Statement[0].Action", "Policy has invalid action"),
        (r#"{"Effect":"Allow","Action":"s3:*","Resource":"b/*"}"#, "Statement[0].Resource", "Resource b/* must be in ARN format"),
        (
            r#"{"Effect":"Deny","Action":"s3:*","Resource":"*","Condition":{"StringMatches":{"a:b":"c"}}}"#,
            "Statement[0].Condition.StringMatches",
            "Invalid Condition type",
        ),
        (
            r#"{"Effect":"Deny","Action":"s3:*","Resource":"*","Condition":{"StringLike":{"prefix":"c"}}}"#,
            "Statement[0].Condition.StringLike.prefix",
            "Policy has an invalid condition key",
        ),
    ] {
        let wrong = Policy::parse_identity(&statement(text)).unwrap_err();
        assert_eq!(wrong.place, place, "{wrong}");
        assert!(wrong.reason.starts_with(reason), "{wrong}");
    }
    let other = r#"{"Effect":"Allow","Action":["ec2:Describe*","kms:Decrypt"],"Resource":"arn:aws:kms:eu-1:1:key/*",
        "Condition":{"StringEquals":{"kms:ViaService":"s3"}}}"#;
    assert!(Policy::parse_identity(&statement(other)).is_ok());
    let trust = r#"{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"sts:AssumeRole"}"#;
    assert!(Policy::parse_trust(&statement(trust)).is_ok());
    for bad in [
        trust.replace("sts:AssumeRole", "s3:GetObject"),
        trust.replace("sts:AssumeRole", "*"),
        trust.replace(r#""Action""#, r#""Resource":"*","Action""#),
        trust.replace(r#""Principal":{"AWS":"111122223333"},"#, ""),
    ] {
        assert!(Policy::parse_trust(&statement(&bad)).is_err(), "{bad}");
    }
}

#[test]
fn what_cannot_be_read_forbids() {
    let request = Request { principal: None, action: "s3:GetObject", resource: Target::s3("b/k"), values: &|_| vec![] };
    assert_eq!(Policy::forbidding().decide(&request), Decision::Deny);
}
