//! Tables from what AWS documents.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::type_complexity, reason = "the types of tables that are read once")]

use super::*;

const ANN: Option<Principal<'_>> = Some(Principal::account("a1", "ann", "111122223333"));
const BOB: Option<Principal<'_>> = Some(Principal::account("b2", "bob", "444455556666"));

fn policy(statements: &str) -> Result<Policy, Malformed> {
    Policy::parse(&format!(r#"{{"Version":"2012-10-17","Statement":[{statements}]}}"#), "b")
}

fn decide(policy: &Policy, who: Option<Principal<'_>>, action: &str, resource: &str, has: &[(&str, &str)]) -> Decision {
    let values = |key: &str| has.iter().filter(|(k, _)| *k == key).map(|(_, v)| (*v).to_owned()).collect();
    policy.decide(&Request { principal: who, action, resource: Target::s3(resource), values: &values })
}

const READ: &str = r#"{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::b/*"}"#;

/// A statement that lets everybody read, under a condition.
fn under(condition: &str) -> Policy {
    let read = READ.strip_suffix('}').unwrap();
    policy(&format!(r#"{read},"Condition":{{{condition}}}}}"#)).unwrap()
}

fn is_met(condition: &str, has: &[(&str, &str)]) -> bool {
    decide(&under(condition), ANN, "s3:GetObject", "b/k", has) == Decision::Allow
}

/// An operator, its values in a policy, and for values of a request whether it is met.
type Row<'a, T> = (&'a str, &'a str, &'a [(T, bool)]);

#[test]
fn deny_wins_and_silence_is_not_consent() {
    use Decision::{Allow, Deny, Silent};
    let allow = r#"{"Effect":"Allow","Principal":{"AWS":["arn:aws:iam:::user/ann","b2"]},"Action":["s3:Get*","s3:PutObject"],
        "Resource":["arn:aws:s3:::b/*","arn:aws:s3:::b"]}"#;
    let deny = r#"{"Sid":"no secrets","Effect":"Deny","NotPrincipal":{"AWS":"b2"},"NotAction":"s3:PutObject","Resource":"arn:aws:s3:::b/secret/*"}"#;
    for both in [format!("{allow},{deny}"), format!("{deny},{allow}")] {
        let policy = policy(&both).unwrap();
        for (who, action, resource, want) in [
            (ANN, "s3:GetObject", "b/k", Allow),
            (ANN, "s3:getobject", "b/k", Allow),
            (ANN, "s3:DeleteObject", "b/k", Silent),
            (ANN, "s3:GetObject", "c/k", Silent),
            (ANN, "s3:GetBucketAcl", "b", Allow),
            (ANN, "s3:GetObject", "b/secret/x", Deny),
            (ANN, "s3:PutObject", "b/secret/x", Allow),
            (ANN, "s3:DeleteObject", "b/secret/x", Deny),
            (BOB, "s3:GetObject", "b/secret/x", Allow),
            (None, "s3:GetObject", "b/k", Silent),
            (None, "s3:GetObject", "b/secret/x", Deny),
        ] {
            assert_eq!(decide(&policy, who, action, resource, &[]), want, "{who:?} {action} {resource}");
        }
    }
    let others = policy(r#"{"Effect":"Deny","Principal":"*","Action":"s3:*","NotResource":"arn:aws:s3:::b/open/*"}"#).unwrap();
    assert_eq!(decide(&others, ANN, "s3:GetObject", "b/open/k", &[]), Silent);
    assert_eq!(decide(&others, ANN, "s3:GetObject", "b/k", &[]), Deny);
}

#[test]
fn all_conditions_must_be_met_and_one_value_of_each() {
    let two = r#""StringEquals":{"s3:prefix":["a","b"],"s3:delimiter":"/"},"Bool":{"aws:SecureTransport":"true"}"#;
    let has = [("s3:prefix", "b"), ("s3:delimiter", "/"), ("aws:securetransport", "true")];
    assert!(is_met(two, &has));
    for missing in 0..has.len() {
        let fewer: Vec<_> = has.iter().enumerate().filter(|(at, _)| *at != missing).map(|(_, v)| *v).collect();
        assert!(!is_met(two, &fewer), "{fewer:?}");
    }
    assert!(!is_met(two, &[("s3:prefix", "c"), has[1], has[2]]));
}

#[test]
fn operators() {
    // An operator with a value, and whether it is met by values of the request; `None` when the key is missing.
    let table: &[Row<'_, Option<&str>>] = &[
        ("StringEquals", r#""Ab*""#, &[(Some("Ab*"), true), (Some("ab*"), false), (Some("Abc"), false), (None, false)]),
        ("StringNotEquals", r#""a""#, &[(Some("a"), false), (Some("b"), true), (None, true)]),
        ("StringNotEquals", r#"["a","b"]"#, &[(Some("b"), false), (Some("c"), true)]),
        ("StringEqualsIgnoreCase", r#""aÉ""#, &[(Some("Aé"), true), (Some("b"), false)]),
        ("StringNotEqualsIgnoreCase", r#""a""#, &[(Some("A"), false), (Some("b"), true)]),
        ("StringLike", r#""a*/?""#, &[(Some("a/b/c"), true), (Some("a/"), false), (None, false)]),
        ("StringNotLike", r#""a*""#, &[(Some("ab"), false), (Some("b"), true), (None, true)]),
        ("StringEqualsIfExists", r#""a""#, &[(Some("a"), true), (Some("b"), false), (None, true)]),
        ("StringNotEqualsIfExists", r#""a""#, &[(Some("a"), false), (None, true)]),
        ("NumericEquals", "10", &[(Some("10"), true), (Some("10.0"), true), (Some("x"), false), (None, false)]),
        ("NumericNotEquals", r#""10""#, &[(Some("10"), false), (Some("11"), true), (None, true)]),
        ("NumericLessThan", "10", &[(Some("9"), true), (Some("10"), false)]),
        ("NumericLessThanEquals", "10", &[(Some("10"), true), (Some("11"), false), (Some("NaN"), false)]),
        ("NumericGreaterThan", "10", &[(Some("11"), true), (Some("10"), false)]),
        ("NumericGreaterThanEquals", "10", &[(Some("10"), true), (Some("9"), false)]),
        ("NumericLessThanEqualsIfExists", "10", &[(None, true), (Some("11"), false)]),
        (
            "DateLessThan",
            r#""2026-01-01T00:00:00Z""#,
            &[(Some("2025-12-31T23:59:59Z"), true), (Some("2026-01-01T00:00:00Z"), false)],
        ),
        ("DateGreaterThanEquals", r#""2026-01-01""#, &[(Some("2026-01-01T00:00:00Z"), true), (Some("1767225599"), false)]),
        (
            "DateGreaterThan",
            "1767225600",
            &[(Some("2026-01-01T01:00:01+01:00"), true), (Some("2026-01-01T00:59:00+01:00"), false)],
        ),
        ("DateEquals", r#""2026-01-01T01:00:00+01:00""#, &[(Some("2026-01-01T00:00:00Z"), true)]),
        ("DateNotEquals", r#""2026-01-01T00:00:00Z""#, &[(Some("2026-01-01T00:00:00Z"), false), (None, true)]),
        ("DateLessThanEquals", r#""2026-01-01T00:00:00Z""#, &[(Some("2026-01-01T00:00:00Z"), true), (Some("soon"), false)]),
        ("Bool", "true", &[(Some("true"), true), (Some("True"), true), (Some("false"), false), (None, false)]),
        ("Bool", r#""false""#, &[(Some("false"), true), (Some("true"), false), (None, false)]),
        ("BoolIfExists", r#""false""#, &[(None, true), (Some("true"), false)]),
        ("BinaryEquals", r#""QUI=""#, &[(Some("QUI="), true), (Some("QUM="), false)]),
        (
            "IpAddress",
            r#""10.1.0.0/16""#,
            &[(Some("10.1.2.3"), true), (Some("10.2.0.1"), false), (Some("::ffff:10.1.0.1"), true), (None, false)],
        ),
        ("IpAddress", r#""10.0.0.1""#, &[(Some("10.0.0.1"), true), (Some("10.0.0.2"), false)]),
        ("IpAddress", r#""0.0.0.0/0""#, &[(Some("1.2.3.4"), true), (Some("2001:db8::1"), false)]),
        (
            "IpAddress",
            r#"["2001:db8::/33","::/128"]"#,
            &[(Some("2001:db8:7fff::1"), true), (Some("2001:db8:8000::1"), false), (Some("::"), true)],
        ),
        (
            "NotIpAddress",
            r#"["10.0.0.0/8","192.168.0.0/24"]"#,
            &[(Some("10.9.9.9"), false), (Some("192.168.0.7"), false), (Some("192.168.1.7"), true), (None, true)],
        ),
        (
            "ArnLike",
            r#""arn:aws:iam:::user/*""#,
            &[(Some("arn:aws:iam:::user/x"), true), (Some("arn:aws:iam::1:user/x"), false), (Some("x"), false)],
        ),
        (
            "ArnEquals",
            r#""arn:*:iam:*:*:user/x""#,
            &[(Some("arn:aws:iam:::user/x"), true), (Some("arn:aws:iam:::user/y"), false)],
        ),
        (
            "ArnNotLike",
            r#""arn:aws:iam:::user/*""#,
            &[(Some("arn:aws:iam:::user/x"), false), (Some("arn:aws:iam::1:role/x"), true), (None, true)],
        ),
        ("ArnNotEquals", r#""*""#, &[(Some("arn:aws:iam:::user/x"), false)]),
        ("Null", r#""true""#, &[(None, true), (Some("a"), false)]),
        ("Null", "false", &[(None, false), (Some(""), true)]),
    ];
    for (operator, value, rows) in table {
        let condition = format!(r#""{operator}":{{"s3:x-amz-acl":{value}}}"#);
        for (asked, want) in *rows {
            let has: Vec<_> = asked.iter().map(|v| ("s3:x-amz-acl", *v)).collect();
            assert_eq!(is_met(&condition, &has), *want, "{condition} {asked:?}");
        }
    }
}

#[test]
fn sets_of_values() {
    let table: &[Row<'_, &[&str]>] = &[
        ("ForAllValues:StringEquals", r#"["a","b"]"#, &[(&["a"], true), (&["a", "b"], true), (&["a", "c"], false), (&[], true)]),
        ("ForAnyValue:StringEquals", r#"["a","b"]"#, &[(&["a", "c"], true), (&["c"], false), (&[], false)]),
        ("ForAnyValue:StringEqualsIfExists", r#"["a"]"#, &[(&["b"], false), (&[], true)]),
        ("ForAllValues:StringNotEquals", r#"["a"]"#, &[(&["b", "c"], true), (&["a", "b"], false), (&[], true)]),
        ("ForAnyValue:StringNotEquals", r#"["a"]"#, &[(&["a", "b"], true), (&["a"], false), (&[], false)]),
        ("ForAllValues:StringLike", r#"["a*"]"#, &[(&["ab", "ac"], true), (&["ab", "b"], false)]),
    ];
    for (operator, value, rows) in table {
        let condition = format!(r#""{operator}":{{"s3:RequestObjectTagKeys":{value}}}"#);
        for (asked, want) in *rows {
            let has: Vec<_> = asked.iter().map(|v| ("s3:requestobjecttagkeys", *v)).collect();
            assert_eq!(is_met(&condition, &has), *want, "{condition} {asked:?}");
        }
    }
}

#[test]
fn variables_stand_for_the_sender() {
    let home = policy(
        r#"{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"arn:aws:s3:::b/home/${aws:username}/*"},
           {"Effect":"Allow","Principal":"*","Action":"s3:ListBucket","Resource":"arn:aws:s3:::b",
            "Condition":{"StringLike":{"s3:prefix":"home/${aws:username}/*"}}}"#,
    )
    .unwrap();
    assert_eq!(decide(&home, ANN, "s3:GetObject", "b/home/ann/x", &[]), Decision::Allow);
    assert_eq!(decide(&home, BOB, "s3:GetObject", "b/home/ann/x", &[]), Decision::Silent);
    assert_eq!(decide(&home, None, "s3:GetObject", "b/home//x", &[]), Decision::Silent);
    assert_eq!(decide(&home, BOB, "s3:ListBucket", "b", &[("s3:prefix", "home/bob/")]), Decision::Allow);
    assert_eq!(decide(&home, BOB, "s3:ListBucket", "b", &[("s3:prefix", "home/ann/")]), Decision::Silent);
    let evil = Some(Principal::account("e", "*", ""));
    assert_eq!(decide(&home, evil, "s3:GetObject", "b/home/ann/x", &[]), Decision::Silent, "a name is no wildcard");
    assert!(is_met(r#""ArnEquals":{"aws:PrincipalArn":"arn:aws:iam:::user/${aws:username}"}"#, &[]));
    assert!(is_met(r#""StringEquals":{"aws:userid":"a1","aws:PrincipalType":"Account","aws:PrincipalAccount":"a1"}"#, &[]));
    let old = Policy::parse(
        r#"{"Statement":{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"arn:aws:s3:::b/${aws:username}"}}"#,
        "b",
    )
    .unwrap();
    assert_eq!(decide(&old, ANN, "s3:GetObject", "b/ann", &[]), Decision::Silent);
    assert_eq!(decide(&old, ANN, "s3:GetObject", "b/${aws:username}", &[]), Decision::Allow);
}

#[test]
fn a_mistake_is_told_with_its_place() {
    let statement = |change: &dyn Fn(&str) -> String| policy(&change(READ)).unwrap_err();
    let with = |from: &str, to: &str| statement(&|s| s.replacen(from, to, 1));
    let condition = |c: &str| with(r#""Action""#, &format!(r#""Condition":{c},"Action""#));
    for (wrong, place, reason) in [
        (with(r#""Allow""#, r#""allow""#), "Statement[0].Effect", "Invalid effect"),
        (with(r#""Principal":"*","#, ""), "Statement[0]", "Missing required field Principal"),
        (with(r#""Principal":"*""#, r#""Principal":"ann""#), "Statement[0].Principal", "Invalid principal"),
        (with(r#""Principal":"*""#, r#""NotPrincipal":{"AWS":"ann"}"#), "Statement[0].NotPrincipal", "Allow with NotPrincipal"),
        (with("s3:GetObject", "s3:GetObjects"), "Statement[0].Action", "Policy has invalid action"),
        (with("s3:GetObject", "ec2:*"), "Statement[0].Action", "Policy has invalid action"),
        (with(r#""s3:GetObject""#, "[]"), "Statement[0].Action", "It must not be empty"),
        (with(r#""s3:GetObject""#, "[1]"), "Statement[0].Action", "It must be a text"),
        (with(r#""Action""#, r#""NotAction":"s3:*","Action""#), "Statement[0].Action", "Only one of"),
        (with(":::b/*", ":::c/*"), "Statement[0].Resource", "Policy has invalid resource"),
        (with(":::b/*", ":::bb"), "Statement[0].Resource", "Policy has invalid resource"),
        (with("aws:s3:::b/*", "aws:sns:::b/*"), "Statement[0].Resource", "Policy has invalid resource"),
        (with("arn:aws:s3:::b/*", "b/*"), "Statement[0].Resource", "Policy has invalid resource"),
        (with("b/*", "b/${aws:username"), "Statement[0].Resource", "Policy has invalid resource"),
        (with(r#""Action""#, r#""Other":1,"Action""#), "Statement[0].Other", "Unknown field"),
        (
            with(r#""Effect":"Allow","#, r#""Effect":"Allow","Effect":"Deny","#),
            "",
            "Policies must be valid JSON: duplicate field \"Effect\"",
        ),
        (condition("[]"), "Statement[0].Condition", "Condition must be an object"),
        (condition(r#"{"StringIs":{"s3:prefix":"a"}}"#), "Statement[0].Condition.StringIs", "Invalid Condition type : StringIs"),
        (condition(r#"{"NullIfExists":{"s3:prefix":"true"}}"#), "Statement[0].Condition.NullIfExists", "Invalid Condition type"),
        (condition(r#"{"ForSome:Bool":{"s3:prefix":"true"}}"#), "Statement[0].Condition.ForSome:Bool", "Invalid Condition type"),
        (
            condition(r#"{"StringLike":{"s3:prefx":"a"}}"#),
            "Statement[0].Condition.StringLike.s3:prefx",
            "Policy has an invalid condition key",
        ),
        (
            condition(r#"{"StringLike":{"s3:ExistingObjectTag/":"a"}}"#),
            "Statement[0].Condition.StringLike.s3:ExistingObjectTag/",
            "Policy has an invalid condition key",
        ),
        (condition(r#"{"StringLike":"a"}"#), "Statement[0].Condition.StringLike", "Condition operator must hold"),
        (
            condition(r#"{"StringLike":{"s3:prefix":[]}}"#),
            "Statement[0].Condition.StringLike.s3:prefix",
            "Condition has no value",
        ),
        (
            condition(r#"{"StringLike":{"s3:prefix":{}}}"#),
            "Statement[0].Condition.StringLike.s3:prefix",
            "Condition value must be",
        ),
        (
            condition(r#"{"NumericEquals":{"s3:max-keys":"x"}}"#),
            "Statement[0].Condition.NumericEquals.s3:max-keys",
            "Condition value does not suit",
        ),
        (
            condition(r#"{"IpAddress":{"aws:SourceIp":"10.0.0.0/33"}}"#),
            "Statement[0].Condition.IpAddress.aws:SourceIp",
            "Condition value does not suit",
        ),
        (
            condition(r#"{"DateEquals":{"aws:CurrentTime":"2026-13-01"}}"#),
            "Statement[0].Condition.DateEquals.aws:CurrentTime",
            "Condition value does not suit",
        ),
        (
            condition(r#"{"ArnLike":{"aws:SourceArn":"arn:aws"}}"#),
            "Statement[0].Condition.ArnLike.aws:SourceArn",
            "Condition value does not suit",
        ),
    ] {
        assert_eq!(wrong.place, place, "{wrong}");
        assert!(wrong.reason.starts_with(reason), "{wrong}");
    }
    assert_eq!(policy(&format!("{READ},1")).unwrap_err().place, "Statement[1]");
    for whole in [
        "",
        "[]",
        "{}",
        r#"{"Version":"2012-10-17","Statement":[]}"#,
        r#"{"Version":"2012-10-17","Statement":1}"#,
        r#"{"Version":"2011-10-17","Statement":[{}]}"#,
        r#"{"Version":"2012-10-17","Statements":[{}]}"#,
    ] {
        assert!(Policy::parse(whole, "b").is_err(), "{whole}");
    }
    let long = format!("{READ},").repeat(250) + READ;
    assert!(policy(&long).unwrap_err().reason.contains("maximum allowed document size"));
}

#[test]
fn resources_may_be_wider_than_the_bucket_but_not_beside_it() {
    for (resource, fine) in [
        ("arn:aws:s3:::b", true),
        ("arn:aws:s3:::b/", true),
        ("arn:aws:s3:::b*", true),
        ("arn:aws:s3:::*", true),
        ("arn:aws:s3:::*/*", true),
        ("arn:aws-cn:s3:::b/k", true),
        ("*", true),
        ("arn:aws:s3:::", false),
        ("arn:aws:s3:::bc*", false),
        ("arn:aws:s3:::a", false),
    ] {
        let statement = READ.replace("arn:aws:s3:::b/*", resource);
        assert_eq!(policy(&statement).is_ok(), fine, "{resource}");
    }
}

#[test]
fn what_is_public() {
    let everybody = |condition: &str| under(condition).is_public();
    assert!(policy(READ).unwrap().is_public());
    assert!(policy(&READ.replace(r#""*""#, r#"{"AWS":["ann","*"]}"#)).unwrap().is_public());
    assert!(!policy(&READ.replace(r#""Principal":"*""#, r#""Principal":{"AWS":"ann"}"#)).unwrap().is_public());
    assert!(!policy(&READ.replace("Allow", "Deny")).unwrap().is_public());
    assert!(policy(&format!("{},{READ}", READ.replace("Allow", "Deny"))).unwrap().is_public());
    for (condition, want) in [
        (r#""IpAddress":{"aws:SourceIp":"10.0.0.0/32"}"#, false),
        (r#""IpAddress":{"aws:SourceIp":"10.0.0.0/8"}"#, false),
        (r#""IpAddress":{"aws:SourceIp":"0.0.0.0/1"}"#, true),
        (r#""IpAddress":{"aws:SourceIp":["10.0.0.0/8","::/0"]}"#, true),
        (r#""NotIpAddress":{"aws:SourceIp":"10.0.0.0/8"}"#, true),
        (r#""IpAddressIfExists":{"aws:SourceIp":"10.0.0.0/8"}"#, true),
        (r#""StringEquals":{"aws:SourceVpc":"vpc-1"}"#, false),
        (r#""StringLike":{"aws:SourceVpc":"vpc-*"}"#, true),
        (r#""StringEquals":{"aws:PrincipalArn":"arn:aws:iam:::user/ann"}"#, false),
        (r#""ArnLike":{"aws:SourceArn":"arn:aws:sns:*:1:x*"}"#, false),
        (r#""ArnLike":{"aws:SourceArn":"*"}"#, true),
        (r#""ForAllValues:StringEquals":{"aws:SourceVpc":"vpc-1"}"#, true),
        (r#""Null":{"aws:SourceVpc":"true"}"#, true),
        (r#""StringEquals":{"s3:prefix":"a"}"#, true),
        (r#""Bool":{"aws:SecureTransport":"true"}"#, true),
    ] {
        assert_eq!(everybody(condition), want, "{condition}");
    }
}

#[test]
fn what_costs_is_asked_for_only_where_it_matters() {
    let tags = under(r#""StringEquals":{"s3:ExistingObjectTag/a":"b"}"#);
    assert!(tags.asks_for("s3:existingobjecttag/", "s3:GetObject"));
    assert!(!tags.asks_for("s3:existingobjecttag/", "s3:PutObject"));
    let inside = under(r#""StringEquals":{"s3:prefix":"${s3:ExistingObjectTag/a}"}"#);
    assert!(inside.asks_for("s3:existingobjecttag/", "s3:GetObject"));
    assert!(!under(r#""StringEquals":{"s3:prefix":"a"}"#).asks_for("s3:existingobjecttag/", "s3:GetObject"));
}
