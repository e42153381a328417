#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::Settings;
use crate::credentials::CredentialSource;

const UNTIL: &str = "2199-01-01T00:00:00Z";

/// A server that answers each request line with a text, or with 404, and remembers what it was asked.
async fn server(answers: Vec<(&'static str, String)>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let told = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut request = Vec::new();
            loop {
                let text = String::from_utf8_lossy(&request).into_owned();
                if let Some((head, body)) = text.split_once("\r\n\r\n") {
                    let length = head.to_lowercase().lines().find_map(|l| l.strip_prefix("content-length: ")?.parse().ok());
                    if body.len() >= length.unwrap_or(0) {
                        break;
                    }
                }
                assert_ne!(connection.read_buf(&mut request).await.unwrap(), 0);
            }
            let request = String::from_utf8(request).unwrap();
            let answer = answers.iter().find(|(line, _)| request.starts_with(line));
            let (status, body) = answer.map_or(("404 Not Found", ""), |(_, body)| ("200 OK", body.as_str()));
            told.lock().unwrap().push(request);
            let text = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            connection.write_all(text.as_bytes()).await.unwrap();
        }
    });
    (endpoint, seen)
}

fn json(secret: &str, until: &str) -> String {
    format!(r#"{{"Code":"Success","AccessKeyId":"A","SecretAccessKey":"{secret}","Token":"T","Expiration":"{until}"}}"#)
}

/// A source that sees these variables and no others.
fn source(variables: &[(&str, &str)]) -> CredentialSource {
    let variables: HashMap<String, String> = variables.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    let settings = Settings::new("http://127.0.0.1".parse().unwrap(), "b");
    CredentialSource::with(&settings, &move |name: &str| variables.get(name).cloned())
}

fn is_given(credentials: &Credentials, secret: &str) {
    assert_eq!(credentials.access_key, "A");
    assert_eq!((credentials.secret.as_str(), credentials.session_token.as_deref()), (secret, Some("T")));
}

#[tokio::test]
async fn an_instance_is_asked_with_a_session() {
    let roles = "/latest/meta-data/iam/security-credentials/";
    let (endpoint, seen) = server(vec![
        ("PUT /latest/api/token ", "SESSION".into()),
        ("GET /latest/meta-data/iam/security-credentials/ ", "my role\n".into()),
        ("GET /latest/meta-data/iam/security-credentials/my%20role ", json("S3CRET", UNTIL)),
    ])
    .await;
    let source = source(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &endpoint)]);
    is_given(&source.get().await.unwrap(), "S3CRET");
    // They hold for long: nobody is asked again, not even when the remote refuses them a moment later.
    source.expire();
    is_given(&source.get().await.unwrap(), "S3CRET");
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 3);
    assert!(seen[0].contains("x-aws-ec2-metadata-token-ttl-seconds: 21600"));
    assert!(
        seen[1..].iter().all(|asked| asked.contains(roles) && asked.contains("x-aws-ec2-metadata-token: SESSION")),
        "{seen:?}"
    );
}

#[tokio::test]
async fn an_agent_is_shown_its_token() {
    let (endpoint, seen) = server(vec![("GET /agent ", json("S3CRET", UNTIL))]).await;
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "FROM-FILE\n").unwrap();
    let uri = format!("{endpoint}/agent");
    let with = |name: &'static str, value: String| source(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &uri), (name, &value)]);
    is_given(&with("AWS_CONTAINER_AUTHORIZATION_TOKEN", "PLAIN".into()).get().await.unwrap(), "S3CRET");
    let file = with("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.to_string_lossy().into_owned());
    is_given(&file.get().await.unwrap(), "S3CRET");
    let seen = seen.lock().unwrap();
    assert!(seen[0].contains("authorization: PLAIN\r\n") && seen[1].contains("authorization: FROM-FILE\r\n"), "{seen:?}");
}

#[tokio::test]
async fn a_role_is_assumed_with_a_token() {
    let xml = format!(
        "<?xml version=\"1.0\"?><AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
         <AssumeRoleWithWebIdentityResult><Credentials><SessionToken>T</SessionToken><SecretAccessKey>S3CRET</SecretAccessKey>\
         <Expiration>{UNTIL}</Expiration><AccessKeyId>A</AccessKeyId></Credentials></AssumeRoleWithWebIdentityResult>\
         </AssumeRoleWithWebIdentityResponse>"
    );
    let (endpoint, seen) = server(vec![("POST / ", xml)]).await;
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "eyJ.a+b.c\n").unwrap();
    let source = source(&[
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap()),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/r"),
        ("AWS_ENDPOINT_URL_STS", &endpoint),
    ]);
    is_given(&source.get().await.unwrap(), "S3CRET");
    let seen = seen.lock().unwrap();
    let form = "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fr&\
                RoleSessionName=sluice&WebIdentityToken=eyJ.a%2Bb.c";
    assert!(seen[0].ends_with(form), "{seen:?}");
}

#[tokio::test]
async fn the_environment_and_files_come_first() {
    let (endpoint, seen) = server(Vec::new()).await;
    let keys = [
        ("AWS_ACCESS_KEY_ID", "A"),
        ("AWS_SECRET_ACCESS_KEY", "E"),
        ("AWS_SESSION_TOKEN", "T"),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", endpoint.as_str()),
    ];
    is_given(&source(&keys).get().await.unwrap(), "E");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("credentials");
    std::fs::write(&file, "[default]\naws_access_key_id=A\naws_secret_access_key=F\naws_session_token=T\n").unwrap();
    let file = [("AWS_SHARED_CREDENTIALS_FILE", file.to_str().unwrap()), keys[3]];
    is_given(&source(&file).get().await.unwrap(), "F");
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn nonsense_is_refused_and_secrets_are_not_told() {
    for body in
        ["", "S3CRET", r#"{"AccessKeyId":"A","SecretAccessKey":1,"Token":"S3CRET"}"#, &json("", UNTIL), &json("S3CRET", "soon")]
    {
        let (endpoint, _seen) = server(vec![("GET /agent ", body.to_owned())]).await;
        let uri = format!("{endpoint}/agent");
        let error = source(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &uri)]).get().await.err().unwrap();
        assert_eq!(*error.kind(), ErrorKind::PermissionDenied);
        assert!(!format!("{error:?}").contains("S3CRET"), "{error}");
    }
    for uri in ["http://example.org/agent", "http://10.0.0.1/agent", "ftp://127.0.0.1/", "agent"] {
        let error = source(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri)]).get().await.err().unwrap();
        assert!(error.to_string().contains("AWS_CONTAINER_CREDENTIALS_FULL_URI"), "{error}");
    }
    // Nobody is asked who must not be.
    let error = source(&[("AWS_EC2_METADATA_DISABLED", "true")]).get().await.err().unwrap();
    assert!(error.to_string().contains("neither"), "{error}");
}

#[tokio::test]
async fn what_still_holds_is_used_when_nobody_answers_any_more() {
    let soon = SystemTime::now() + Duration::from_secs(3600);
    let until = time::OffsetDateTime::from(soon).format(&time::format_description::well_known::Rfc3339).unwrap();
    let (endpoint, _seen) = server(vec![("GET /agent ", json("S3CRET", &until))]).await;
    let uri = format!("{endpoint}/agent");
    let mut source = source(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &uri)]);
    is_given(&source.get().await.unwrap(), "S3CRET");
    source.fail_from_now_on();
    is_given(&source.get().await.unwrap(), "S3CRET");
}
