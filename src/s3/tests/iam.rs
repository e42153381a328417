//! Users, groups, roles, policies and sessions: what is set is what holds.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::*;

type Who = (&'static str, &'static str);

/// A document of one statement.
fn policy(effect: &str, actions: &str, resources: &str) -> String {
    let statement = format!(r#"{{"Effect":"{effect}","Action":{actions},"Resource":{resources}}}"#);
    format!(r#"{{"Version":"2012-10-17","Statement":[{statement}]}}"#)
}

const OBJECTS: &str = r#""arn:aws:s3:::bucket/*""#;

async fn act(g: &Gateway, who: Who, action: &str, fields: &[(&str, &str)]) -> Answer {
    let mut body = format!("Action={action}&Version=2010-05-08");
    for (name, value) in fields {
        body.push_str(&format!("&{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)));
    }
    let ask =
        g.ask("POST", "/").by(who).service("iam").header("content-type", "application/x-www-form-urlencoded; charset=utf-8");
    ask.body(body).send().await
}

async fn well(g: &Gateway, who: Who, action: &str, fields: &[(&str, &str)]) -> Answer {
    let answer = act(g, who, action, fields).await;
    assert_eq!(answer.status, 200, "{action} {fields:?}: {}", answer.text());
    answer
}

fn leaked(text: &str) -> &'static str {
    Box::leak(text.to_owned().into_boxed_str())
}

async fn key_of(g: &Gateway, owner: Who, user: &str) -> Who {
    let answer = well(g, owner, "CreateAccessKey", &[("UserName", user)]).await;
    (leaked(answer.element("AccessKeyId").unwrap()), leaked(answer.element("SecretAccessKey").unwrap()))
}

/// A user of Ann's account with a key.
async fn user(g: &Gateway, name: &str) -> Who {
    well(g, ANN, "CreateUser", &[("UserName", name)]).await;
    key_of(g, ANN, name).await
}

async fn status(g: &Gateway, who: Who, method: &str, target: &str) -> u16 {
    let body = if method == "PUT" { "x" } else { "" };
    g.ask(method, target).by(who).body(body).send().await.status
}

/// Temporary credentials out of an answer.
struct Session(Who, String);

impl Session {
    fn of(answer: &Answer) -> Self {
        let text = |name| leaked(answer.element(name).unwrap());
        Self((text("AccessKeyId"), text("SecretAccessKey")), text("SessionToken").to_owned())
    }

    async fn ask(&self, g: &Gateway, method: &str, target: &str) -> Answer {
        let body = if method == "PUT" { "x" } else { "" };
        g.ask(method, target).by(self.0).header("x-amz-security-token", &self.1).body(body).send().await
    }

    async fn status(&self, g: &Gateway, method: &str, target: &str) -> u16 {
        self.ask(g, method, target).await.status
    }
}

#[tokio::test]
async fn a_user_may_exactly_what_the_policies_say() {
    let g = Gateway::with_bucket().await;
    g.put("/bucket/k", "x").await;
    let eve = user(&g, "eve").await;
    for (method, target) in [
        ("GET", "/bucket/k"),
        ("PUT", "/bucket/k"),
        ("GET", "/bucket"),
        ("GET", "/"),
        ("PUT", "/evesbucket"),
        ("DELETE", "/bucket/k"),
        ("GET", "/bucket?acl"),
        ("GET", "/bucket/none"),
    ] {
        assert_eq!(status(&g, eve, method, target).await, 403, "{method} {target}");
    }
    let read = policy("Allow", r#""s3:GetObject""#, OBJECTS);
    well(&g, ANN, "PutUserPolicy", &[("UserName", "eve"), ("PolicyName", "read"), ("PolicyDocument", &read)]).await;
    assert_eq!(g.ask("GET", "/bucket/k").by(eve).send().await.body, b"x");
    for (method, target, want) in [
        ("GET", "/bucket/none", 403),
        ("PUT", "/bucket/k", 403),
        ("GET", "/bucket", 403),
        ("GET", "/bucket/k?tagging", 403),
        ("GET", "/bucket/k?acl", 403),
    ] {
        assert_eq!(status(&g, eve, method, target).await, want, "{method} {target}");
    }
    let list = policy("Allow", r#"["s3:ListBucket","s3:ListAllMyBuckets","s3:CreateBucket"]"#, r#""*""#);
    well(&g, ANN, "PutUserPolicy", &[("UserName", "eve"), ("PolicyName", "list"), ("PolicyDocument", &list)]).await;
    assert_eq!(status(&g, eve, "GET", "/bucket/none").await, 404, "who may list may know");
    assert_eq!(g.ask("GET", "/bucket").by(eve).send().await.elements("Key"), ["k"]);
    assert_eq!(g.ask("GET", "/").by(eve).send().await.element("Name"), Some("bucket"));
    assert_eq!(g.ask("PUT", "/evesbucket").by(eve).send().await.status, 200);
    assert_eq!(g.get("/evesbucket").await.status, 200, "it is the account's");
    assert_eq!(status(&g, BOB, "GET", "/evesbucket").await, 403);
    let no = policy("Deny", r#""s3:Get*""#, r#""*""#);
    well(&g, ANN, "PutUserPolicy", &[("UserName", "eve"), ("PolicyName", "no"), ("PolicyDocument", &no)]).await;
    assert_eq!(status(&g, eve, "GET", "/bucket/k").await, 403, "a denial wins");
    well(&g, ANN, "DeleteUserPolicy", &[("UserName", "eve"), ("PolicyName", "no")]).await;
    assert_eq!(status(&g, eve, "GET", "/bucket/k").await, 200);
    well(&g, ANN, "DeleteUserPolicy", &[("UserName", "eve"), ("PolicyName", "read")]).await;
    assert_eq!(status(&g, eve, "GET", "/bucket/k").await, 403);
}

#[tokio::test]
async fn groups_boundaries_and_the_roles_of_a_tenant() {
    let g = Gateway::with_bucket().await;
    g.put("/bucket/k", "x").await;
    let eve = user(&g, "eve").await;
    well(&g, ANN, "CreateGroup", &[("GroupName", "readers")]).await;
    let read_only = [("GroupName", "readers"), ("PolicyArn", "arn:aws:iam::aws:policy/SluiceReadOnly")];
    well(&g, ANN, "AttachGroupPolicy", &read_only).await;
    well(&g, ANN, "AddUserToGroup", &[("GroupName", "readers"), ("UserName", "eve")]).await;
    let rows = |read, write, configure, people| {
        [
            ("GET", "/bucket/k", read),
            ("GET", "/bucket", read),
            ("PUT", "/bucket/w", write),
            ("DELETE", "/bucket/w", if write == 200 { 204 } else { 403 }),
            ("PUT", "/bucket?ownershipControls", configure),
            ("POST", "/", people),
        ]
    };
    let check = async |rows: [(&str, &str, u16); 6]| {
        for (method, target, want) in rows {
            let got = match method {
                "POST" => act(&g, eve, "CreateUser", &[("UserName", "made")]).await.status,
                _ => status(&g, eve, method, target).await,
            };
            assert_eq!(got, want, "{method} {target}");
        }
    };
    check(rows(200, 403, 403, 403)).await;
    well(&g, ANN, "DetachGroupPolicy", &read_only).await;
    let attach = async |name: &str| {
        let arn = format!("arn:aws:iam::aws:policy/{name}");
        well(&g, ANN, "AttachUserPolicy", &[("UserName", "eve"), ("PolicyArn", &arn)]).await;
    };
    attach("SluiceReadWrite").await;
    check(rows(200, 200, 403, 403)).await;
    attach("SluiceOperator").await;
    // The document is empty: who may do it is told so, who may not is not.
    check(rows(200, 200, 400, 403)).await;
    attach("SluiceAdmin").await;
    check(rows(200, 200, 400, 200)).await;
    let bound = [("UserName", "eve"), ("PermissionsBoundary", "arn:aws:iam::aws:policy/SluiceReadOnly")];
    well(&g, ANN, "PutUserPermissionsBoundary", &bound).await;
    check(rows(200, 403, 403, 403)).await;
    let shown = well(&g, ANN, "GetUser", &[("UserName", "eve")]).await;
    assert_eq!(shown.element("PermissionsBoundaryArn"), Some("arn:aws:iam::aws:policy/SluiceReadOnly"));
    well(&g, ANN, "DeleteUserPermissionsBoundary", &bound[..1]).await;
    well(&g, ANN, "DeleteUser", &[("UserName", "made")]).await;
    check(rows(200, 200, 400, 200)).await;
    // A tenant's admin is no one else's admin.
    assert_eq!(g.ask("PUT", "/bobs").by(BOB).send().await.status, 200);
    for (method, target) in [("GET", "/bobs"), ("PUT", "/bobs/k"), ("DELETE", "/bobs"), ("GET", "/bobs?policy")] {
        assert_eq!(status(&g, eve, method, target).await, 403, "{method} {target}");
    }
    assert!(!well(&g, eve, "ListUsers", &[]).await.elements("UserName").is_empty());
    assert!(well(&g, BOB, "ListUsers", &[]).await.elements("UserName").is_empty());
    assert_eq!(act(&g, BOB, "GetUser", &[("UserName", "eve")]).await.error(), (404, "NoSuchEntity"));
    assert_eq!(act(&g, BOB, "DeleteAccessKey", &[("AccessKeyId", eve.0)]).await.error(), (404, "NoSuchEntity"));
    assert_eq!(act(&g, BOB, "GetAccessKeyLastUsed", &[("AccessKeyId", eve.0)]).await.error(), (404, "NoSuchEntity"));
}

#[tokio::test]
async fn two_accounts_must_both_allow() {
    let g = Gateway::with_bucket().await;
    g.put("/bucket/k", "x").await;
    well(&g, BOB, "CreateUser", &[("UserName", "fay")]).await;
    let fay = key_of(&g, BOB, "fay").await;
    let number = well(&g, BOB, "GetCallerIdentity", &[]).await.element("Account").unwrap().to_owned();
    let document = |principal: &str| {
        format!(
            r#"{{"Statement":{{"Effect":"Allow","Principal":{{"AWS":"{principal}"}},"Action":"s3:GetObject","Resource":{OBJECTS}}}}}"#
        )
    };
    let user = format!("arn:aws:iam::{number}:user/fay");
    assert_eq!(g.put("/bucket?policy", document(&user)).await.status, 204);
    assert_eq!(status(&g, fay, "GET", "/bucket/k").await, 403, "her own account has not allowed it");
    assert_eq!(status(&g, BOB, "GET", "/bucket/k").await, 403, "it is hers, not the account's");
    let read = policy("Allow", r#""s3:*""#, r#""*""#);
    well(&g, BOB, "PutUserPolicy", &[("UserName", "fay"), ("PolicyName", "p"), ("PolicyDocument", &read)]).await;
    assert_eq!(status(&g, fay, "GET", "/bucket/k").await, 200);
    assert_eq!(status(&g, fay, "PUT", "/bucket/k").await, 403);
    assert_eq!(g.put("/bucket?policy", document(&number)).await.status, 204);
    assert_eq!((status(&g, fay, "GET", "/bucket/k").await, status(&g, BOB, "GET", "/bucket/k").await), (200, 200));
}

#[tokio::test]
async fn keys_end_at_once() {
    let g = Gateway::with_bucket().await;
    g.put("/bucket/k", "x").await;
    let eve = user(&g, "eve").await;
    let all = policy("Allow", r#""s3:*""#, r#""*""#);
    well(&g, ANN, "PutUserPolicy", &[("UserName", "eve"), ("PolicyName", "p"), ("PolicyDocument", &all)]).await;
    let second = key_of(&g, ANN, "eve").await;
    assert_eq!(act(&g, ANN, "CreateAccessKey", &[("UserName", "eve")]).await.error(), (409, "LimitExceeded"));
    let listed = well(&g, ANN, "ListAccessKeys", &[("UserName", "eve")]).await;
    assert_eq!(listed.elements("AccessKeyId").len(), 2);
    assert_eq!(status(&g, eve, "GET", "/bucket/k").await, 200);
    for (to, want) in [("Inactive", 403), ("Active", 200)] {
        well(&g, ANN, "UpdateAccessKey", &[("UserName", "eve"), ("AccessKeyId", eve.0), ("Status", to)]).await;
        assert_eq!(status(&g, eve, "GET", "/bucket/k").await, want);
    }
    well(&g, ANN, "DeleteAccessKey", &[("UserName", "eve"), ("AccessKeyId", eve.0)]).await;
    assert_eq!(g.ask("GET", "/bucket/k").by(eve).send().await.error(), (403, "InvalidAccessKeyId"));
    assert_eq!(status(&g, second, "GET", "/bucket/k").await, 200);
    assert_eq!(act(&g, ANN, "DeleteUser", &[("UserName", "eve")]).await.error(), (409, "DeleteConflict"));
    well(&g, ANN, "DeleteAccessKey", &[("UserName", "eve"), ("AccessKeyId", second.0)]).await;
    assert_eq!(act(&g, ANN, "DeleteUser", &[("UserName", "eve")]).await.error(), (409, "DeleteConflict"));
    well(&g, ANN, "DeleteUserPolicy", &[("UserName", "eve"), ("PolicyName", "p")]).await;
    well(&g, ANN, "DeleteUser", &[("UserName", "eve")]).await;
    assert_eq!(act(&g, ANN, "GetUser", &[("UserName", "eve")]).await.error(), (404, "NoSuchEntity"));
    assert_eq!(well(&g, ANN, "GetUser", &[]).await.element("UserName"), Some("ann"));
}

#[tokio::test]
async fn managed_policies_and_their_versions() {
    let g = Gateway::with_bucket().await;
    g.put("/bucket/k", "x").await;
    let eve = user(&g, "eve").await;
    let (read, write) = (policy("Allow", r#""s3:GetObject""#, OBJECTS), policy("Allow", r#""s3:PutObject""#, OBJECTS));
    let made = well(&g, ANN, "CreatePolicy", &[("PolicyName", "p"), ("Path", "/team/"), ("PolicyDocument", &read)]).await;
    let arn = made.element("Arn").unwrap().to_owned();
    assert!(arn.ends_with(":policy/team/p"), "{arn}");
    let of_eve = [("UserName", "eve"), ("PolicyArn", arn.as_str())];
    well(&g, ANN, "AttachUserPolicy", &of_eve).await;
    assert_eq!((status(&g, eve, "GET", "/bucket/k").await, status(&g, eve, "PUT", "/bucket/k").await), (200, 403));
    let version = [("PolicyArn", arn.as_str()), ("PolicyDocument", write.as_str()), ("SetAsDefault", "true")];
    assert_eq!(well(&g, ANN, "CreatePolicyVersion", &version).await.element("VersionId"), Some("v2"));
    assert_eq!((status(&g, eve, "GET", "/bucket/k").await, status(&g, eve, "PUT", "/bucket/k").await), (403, 200));
    let named = |version| [("PolicyArn", arn.as_str()), ("VersionId", version)];
    assert_eq!(act(&g, ANN, "DeletePolicyVersion", &named("v2")).await.error(), (409, "DeleteConflict"));
    well(&g, ANN, "SetDefaultPolicyVersion", &named("v1")).await;
    assert_eq!((status(&g, eve, "GET", "/bucket/k").await, status(&g, eve, "PUT", "/bucket/k").await), (200, 403));
    assert_eq!(act(&g, ANN, "DeletePolicy", &named("v1")[..1]).await.error(), (409, "DeleteConflict"));
    well(&g, ANN, "DeletePolicyVersion", &named("v2")).await;
    assert_eq!(act(&g, ANN, "DeletePolicy", &named("v1")[..1]).await.error(), (409, "DeleteConflict"));
    let shown = well(&g, ANN, "GetPolicy", &named("v1")[..1]).await;
    assert_eq!(shown.element("AttachmentCount"), Some("1"));
    assert_eq!(well(&g, ANN, "ListEntitiesForPolicy", &named("v1")[..1]).await.elements("UserName"), ["eve"]);
    assert_eq!(well(&g, ANN, "ListAttachedUserPolicies", &of_eve[..1]).await.elements("PolicyArn"), [arn.as_str()]);
    well(&g, ANN, "DetachUserPolicy", &of_eve).await;
    assert_eq!(status(&g, eve, "GET", "/bucket/k").await, 403);
    well(&g, ANN, "DeletePolicy", &named("v1")[..1]).await;
    assert_eq!(act(&g, ANN, "AttachUserPolicy", &of_eve).await.error(), (404, "NoSuchEntity"));
    let ours = well(&g, ANN, "ListPolicies", &[("MaxItems", "3")]).await;
    assert_eq!((ours.elements("Arn").len(), ours.element("IsTruncated")), (3, Some("true")));
    let next = well(&g, ANN, "ListPolicies", &[("Marker", ours.element("Marker").unwrap())]).await;
    assert_eq!(next.elements("Arn").len() + 3, crate::tokens::BUILT_IN.len());
    let changed = [("PolicyArn", "arn:aws:iam::aws:policy/SluiceAdmin"), ("PolicyDocument", read.as_str())];
    assert_eq!(act(&g, ANN, "CreatePolicyVersion", &changed).await.error(), (403, "AccessDenied"));
}

#[tokio::test]
async fn mistakes_are_told_as_aws_tells_them() {
    let g = Gateway::start().await;
    well(
        &g,
        ANN,
        "CreateUser",
        &[("UserName", "eve"), ("Path", "/a/"), ("Tags.member.1.Key", "t"), ("Tags.member.1.Value", "v")],
    )
    .await;
    let long = policy("Allow", &format!(r#""s3:{}""#, "x".repeat(2048)), r#""*""#);
    for (action, fields, want) in [
        ("CreateUser", vec![("UserName", "EVE")], (409, "EntityAlreadyExists")),
        ("CreateUser", vec![("UserName", "a b")], (400, "ValidationError")),
        ("CreateUser", vec![], (400, "ValidationError")),
        ("CreateUser", vec![("UserName", "x"), ("Path", "a")], (400, "ValidationError")),
        ("GetUser", vec![("UserName", "nobody")], (404, "NoSuchEntity")),
        (
            "PutUserPolicy",
            vec![("UserName", "eve"), ("PolicyName", "p"), ("PolicyDocument", "{")],
            (400, "MalformedPolicyDocument"),
        ),
        ("PutUserPolicy", vec![("UserName", "eve"), ("PolicyName", "p"), ("PolicyDocument", &long)], (409, "LimitExceeded")),
        ("AttachUserPolicy", vec![("UserName", "eve"), ("PolicyArn", "arn:aws:iam::aws:policy/None")], (404, "NoSuchEntity")),
        ("CreateRole", vec![("RoleName", "r"), ("AssumeRolePolicyDocument", "{}")], (400, "MalformedPolicyDocument")),
        ("ListUsers", vec![("MaxItems", "0")], (400, "ValidationError")),
        ("ListUsers", vec![("Marker", "zz")], (400, "ValidationError")),
        ("NoSuchAction", vec![], (400, "InvalidAction")),
    ] {
        let answer = act(&g, ANN, action, &fields).await;
        assert_eq!(answer.error(), want, "{action} {fields:?}: {}", answer.text());
    }
    let wrong = policy("Allow", r#""s3:GetObject""#, r#""*""#)
        .replace("Resource", "Condition\":{\"StringIs\":{\"a:b\":\"c\"}},\"Resource");
    let answer = act(&g, ANN, "PutUserPolicy", &[("UserName", "eve"), ("PolicyName", "p"), ("PolicyDocument", &wrong)]).await;
    assert_eq!(answer.error(), (400, "MalformedPolicyDocument"));
    assert!(answer.element("Message").unwrap().contains("Statement[0].Condition.StringIs"), "{}", answer.text());
    let shown = well(&g, ANN, "GetUser", &[("UserName", "Eve")]).await;
    assert_eq!((shown.element("UserName"), shown.element("Key"), shown.element("Value")), (Some("eve"), Some("t"), Some("v")));
    assert!(shown.element("Arn").unwrap().ends_with(":user/a/eve"));
    assert!(
        shown.text().starts_with("<GetUserResponse xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\"><GetUserResult><User>")
    );
}

#[tokio::test]
async fn who_signs_for_what_is_verified() {
    let g = Gateway::with_bucket().await;
    let post = || g.ask("POST", "/").header("content-type", "application/x-www-form-urlencoded").body("Action=GetCallerIdentity");
    assert_eq!(post().service("sts").send().await.status, 200);
    assert_eq!(post().send().await.error(), (403, "SignatureDoesNotMatch"), "signed for S3");
    assert_eq!(post().anonymous().send().await.error(), (403, "MissingAuthenticationToken"));
    assert_eq!(post().service("sts").by((ANN.0, "wrong")).send().await.error(), (403, "SignatureDoesNotMatch"));
    assert_eq!(post().service("sts").by(("NOBODY", "wrong")).send().await.error(), (403, "InvalidClientTokenId"));
    let forged = post().service("sts").payload("UNSIGNED-PAYLOAD").send().await;
    assert_eq!(forged.error(), (403, "SignatureDoesNotMatch"), "the body is always signed");
    assert_eq!(post().service("iam").body("x".repeat(300_000)).send().await.status, 413);
    for service in ["iam", "sts"] {
        assert_eq!(g.ask("GET", "/bucket").service(service).send().await.error(), (400, "AuthorizationHeaderMalformed"));
    }
}

#[tokio::test]
async fn roles_are_assumed_by_whom_they_trust() {
    let g = Gateway::with_bucket().await;
    g.put("/bucket/k", "x").await;
    let eve = user(&g, "eve").await;
    let number = well(&g, ANN, "GetCallerIdentity", &[]).await.element("Account").unwrap().to_owned();
    let trust = |principal: &str, condition: &str| {
        format!(
            r#"{{"Statement":{{"Effect":"Allow","Principal":{{"AWS":"{principal}"}},"Action":"sts:AssumeRole","Condition":{{{condition}}}}}}}"#
        )
    };
    let by_account = trust(&format!("arn:aws:iam::{number}:root"), "");
    let role = [("RoleName", "deploy"), ("AssumeRolePolicyDocument", by_account.as_str())];
    let arn = well(&g, ANN, "CreateRole", &role).await.element("Arn").unwrap().to_owned();
    let all = policy("Allow", r#""s3:*""#, r#""*""#);
    well(&g, ANN, "PutRolePolicy", &[("RoleName", "deploy"), ("PolicyName", "p"), ("PolicyDocument", &all)]).await;
    let assume = [("RoleArn", arn.as_str()), ("RoleSessionName", "s1")];
    assert_eq!(act(&g, eve, "AssumeRole", &assume).await.error(), (403, "AccessDenied"), "the account has to pass it on");
    let may = policy("Allow", r#""sts:AssumeRole""#, &format!("\"{arn}\""));
    well(&g, ANN, "PutUserPolicy", &[("UserName", "eve"), ("PolicyName", "p"), ("PolicyDocument", &may)]).await;
    let answer = well(&g, eve, "AssumeRole", &assume).await;
    assert!(answer.element("AssumedRoleId").unwrap().ends_with(":s1"));
    let session = Session::of(&answer);
    for (method, target, want) in [("GET", "/bucket/k", 200), ("PUT", "/bucket/w", 200), ("DELETE", "/bucket/w", 204)] {
        assert_eq!(session.status(&g, method, target).await, want, "{method} {target}");
    }
    assert_eq!(status(&g, eve, "GET", "/bucket/k").await, 403, "she herself has not become the role");
    // A session policy narrows.
    let read = policy("Allow", r#""s3:GetObject""#, r#""*""#);
    let narrow = Session::of(&well(&g, eve, "AssumeRole", &[assume[0], assume[1], ("Policy", &read)]).await);
    assert_eq!((narrow.status(&g, "GET", "/bucket/k").await, narrow.status(&g, "PUT", "/bucket/w").await), (200, 403));
    // The token is half of the credentials.
    assert_eq!(g.ask("GET", "/bucket/k").by(session.0).send().await.error(), (403, "InvalidAccessKeyId"));
    let other = Session(session.0, narrow.1.clone());
    assert_eq!(other.ask(&g, "GET", "/bucket/k").await.error(), (400, "InvalidToken"));
    let presigned = |token: &str| {
        let target = format!("/bucket/k?X-Amz-Security-Token={token}");
        g.ask("GET", &target).by(session.0).presigned(60, time::OffsetDateTime::now_utc())
    };
    assert_eq!(presigned(&session.1).send().await.body, b"x");
    assert_eq!(presigned(&narrow.1).send().await.error(), (400, "InvalidToken"));
    assert_eq!(g.ask("GET", "/bucket/k").header("x-amz-security-token", &session.1).send().await.error(), (400, "InvalidToken"));
    // Conditions of the trust, and its limits.
    let with_id = trust(&format!("arn:aws:iam::{number}:user/eve"), r#""StringEquals":{"sts:ExternalId":"7"}"#);
    well(&g, ANN, "UpdateAssumeRolePolicy", &[("RoleName", "deploy"), ("PolicyDocument", &with_id)]).await;
    assert_eq!(act(&g, eve, "AssumeRole", &assume).await.error(), (403, "AccessDenied"));
    well(&g, eve, "AssumeRole", &[assume[0], assume[1], ("ExternalId", "7")]).await;
    let longer = [assume[0], assume[1], ("ExternalId", "7"), ("DurationSeconds", "3601")];
    assert_eq!(act(&g, eve, "AssumeRole", &longer).await.error(), (400, "ValidationError"));
    let none = arn.replace("deploy", "none");
    assert_eq!(act(&g, eve, "AssumeRole", &[("RoleArn", &none), assume[1]]).await.error(), (403, "AccessDenied"));
    assert_eq!(act(&g, BOB, "AssumeRole", &assume).await.error(), (403, "AccessDenied"));
    // A role of another account, which trusts this one.
    let bobs = well(&g, BOB, "GetCallerIdentity", &[]).await.element("Account").unwrap().to_owned();
    well(&g, ANN, "UpdateAssumeRolePolicy", &[("RoleName", "deploy"), ("PolicyDocument", &trust(&bobs, ""))]).await;
    let foreign = Session::of(&well(&g, BOB, "AssumeRole", &assume).await);
    assert_eq!(foreign.status(&g, "GET", "/bucket/k").await, 200);
    // The policies of a role hold for its sessions at once; without the role they are over.
    well(&g, ANN, "DeleteRolePolicy", &[("RoleName", "deploy"), ("PolicyName", "p")]).await;
    assert_eq!(session.status(&g, "GET", "/bucket/k").await, 403);
    well(&g, ANN, "DeleteRole", &[("RoleName", "deploy")]).await;
    assert_eq!(session.ask(&g, "GET", "/bucket/k").await.error(), (403, "InvalidAccessKeyId"));
}

#[tokio::test]
async fn sessions_of_users_and_federated_users() {
    let g = Gateway::with_bucket().await;
    g.put("/bucket/k", "x").await;
    let eve = user(&g, "eve").await;
    let some = policy("Allow", r#"["s3:GetObject","sts:GetFederationToken"]"#, r#""*""#);
    well(&g, ANN, "PutUserPolicy", &[("UserName", "eve"), ("PolicyName", "p"), ("PolicyDocument", &some)]).await;
    let hers = Session::of(&well(&g, eve, "GetSessionToken", &[("DurationSeconds", "900")]).await);
    assert_eq!((hers.status(&g, "GET", "/bucket/k").await, hers.status(&g, "PUT", "/bucket/k").await), (200, 403));
    let whole = Session::of(&well(&g, ANN, "GetSessionToken", &[]).await);
    assert_eq!((whole.status(&g, "PUT", "/bucket/k").await, whole.status(&g, "GET", "/bucket").await), (200, 200));
    assert_eq!(act(&g, eve, "GetSessionToken", &[("DurationSeconds", "899")]).await.error(), (400, "ValidationError"));
    let nothing = Session::of(&well(&g, eve, "GetFederationToken", &[("Name", "fred")]).await);
    assert_eq!(nothing.status(&g, "GET", "/bucket/k").await, 403);
    let all = policy("Allow", r#""s3:*""#, r#""*""#);
    let fred = Session::of(&well(&g, eve, "GetFederationToken", &[("Name", "fred"), ("Policy", &all)]).await);
    assert_eq!((fred.status(&g, "GET", "/bucket/k").await, fred.status(&g, "PUT", "/bucket/k").await), (200, 403));
    let identity = |session: &Session| {
        let post = g.ask("POST", "/").by(session.0).service("sts").header("x-amz-security-token", &session.1);
        post.header("content-type", "application/x-www-form-urlencoded").body("Action=GetCallerIdentity").send()
    };
    assert!(identity(&fred).await.element("Arn").unwrap().ends_with(":federated-user/fred"));
    assert!(identity(&hers).await.element("Arn").unwrap().ends_with(":user/eve"));
    assert!(identity(&whole).await.element("Arn").unwrap().ends_with(":root"));
    let again = g.ask("POST", "/").by(hers.0).service("sts").header("x-amz-security-token", &hers.1);
    let again = again.header("content-type", "application/x-www-form-urlencoded").body("Action=GetSessionToken").send().await;
    assert_eq!(again.error(), (403, "AccessDenied"), "a session begets none");
    for session in [&whole, &fred] {
        let post = g.ask("POST", "/").by(session.0).service("iam").header("x-amz-security-token", &session.1);
        let made = post.header("content-type", "application/x-www-form-urlencoded").body("Action=CreateAccessKey").send().await;
        assert_eq!(made.error(), (403, "AccessDenied"), "nor a key that lasts");
    }
}

#[tokio::test]
async fn what_only_the_body_tells_is_decided_too() {
    let g = Gateway::with_bucket().await;
    for key in ["a/k", "b/k"] {
        g.put(&format!("/bucket/{key}"), "x").await;
    }
    let eve = user(&g, "eve").await;
    let only_a = policy("Allow", r#"["s3:DeleteObject","s3:GetObject","s3:PutObject"]"#, r#""arn:aws:s3:::bucket/a/*""#);
    well(&g, ANN, "PutUserPolicy", &[("UserName", "eve"), ("PolicyName", "p"), ("PolicyDocument", &only_a)]).await;
    let copy = |from: &'static str| g.ask("PUT", "/bucket/a/copy").by(eve).header("x-amz-copy-source", from).send();
    assert_eq!((copy("/bucket/a/k").await.status, copy("/bucket/b/k").await.status), (200, 403));
    let public = g.ask("PUT", "/bucket/a/open").by(eve).header("x-amz-acl", "public-read").body("x").send().await;
    assert_eq!(public.status, 403, "who may write may not publish");
    let body = "<Delete><Object><Key>a/k</Key></Object><Object><Key>b/k</Key></Object></Delete>";
    let deleted = g.ask("POST", "/bucket?delete").by(eve).header("content-md5", &md5(body.as_bytes())).body(body).send().await;
    assert_eq!((deleted.elements("Key"), deleted.element("Code")), (vec!["a/k", "b/k"], Some("AccessDenied")));
    assert_eq!((g.get("/bucket/a/k").await.status, g.get("/bucket/b/k").await.status), (404, 200));
}

/// Two who change the same at once: both changes are there, or one is told to try again.
#[tokio::test]
async fn no_client_of_a_provider_is_lost() {
    let g = Gateway::with_bucket().await;
    let arn = well(&g, ANN, "CreateOpenIDConnectProvider", &[("Url", "https://idp.example.org")]).await;
    let arn = arn.element("OpenIDConnectProviderArn").unwrap();
    let named = |name: String| {
        let g = &g;
        async move {
            let fields = [("OpenIDConnectProviderArn", arn), ("ClientID", name.as_str())];
            let answer = act(g, ANN, "AddClientIDToOpenIDConnectProvider", &fields).await;
            let lost = answer.status == 409 && answer.element("Code") == Some("ConcurrentModification");
            assert!(answer.status == 200 || lost, "{}", answer.text());
            (answer.status == 200).then_some(name)
        }
    };
    let done = futures::future::join_all((0..8).map(|n| named(format!("client-{n}")))).await;
    let mut wanted: Vec<String> = done.into_iter().flatten().collect();
    assert!(wanted.len() >= 2, "{wanted:?}");
    wanted.sort();
    let shown = well(&g, ANN, "GetOpenIDConnectProvider", &[("OpenIDConnectProviderArn", arn)]).await;
    let kept: Vec<String> = (0..8).map(|n| format!("client-{n}")).filter(|name| shown.text().contains(name)).collect();
    assert_eq!(kept, wanted);
    let twice = act(&g, ANN, "CreateOpenIDConnectProvider", &[("Url", "https://idp.example.org/")]).await;
    assert_eq!((twice.status, twice.element("Code")), (409, Some("EntityAlreadyExists")));
    well(&g, ANN, "DeleteOpenIDConnectProvider", &[("OpenIDConnectProviderArn", arn)]).await;
    assert_eq!(act(&g, ANN, "GetOpenIDConnectProvider", &[("OpenIDConnectProviderArn", arn)]).await.status, 404);
}

#[tokio::test]
async fn tokens_of_strangers_count_for_their_address() {
    let rates = crate::limits::Settings { enabled: true, user_per_sec: 1, ..Default::default() };
    let g = Gateway::with_rates(crate::s3::Settings::default(), rates).await;
    let form = "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fr&RoleSessionName=name\
                &WebIdentityToken=none";
    let ask = async || {
        let ask = g.ask("POST", "/").anonymous().header("content-type", "application/x-www-form-urlencoded");
        ask.body(form).send().await
    };
    let first = ask().await;
    assert_eq!((first.status, first.element("Code")), (400, Some("InvalidIdentityToken")), "{}", first.text());
    // However slow the machine is, one of these comes within a second of the one before.
    for _ in 0..100 {
        let next = ask().await;
        if next.status == 503 {
            assert_eq!(next.element("Code"), Some("ServiceUnavailable"));
            assert_eq!(next.header("retry-after"), "1");
            // Who has signed has a rate of their own.
            well(&g, ANN, "ListUsers", &[]).await;
            return;
        }
        assert_eq!(next.status, 400);
    }
    panic!("nobody was refused");
}
