use std::net::{IpAddr, Ipv4Addr};

use async_trait::async_trait;
use parking_lot::Mutex;
use std::sync::Arc;

use super::*;
use crate::error::{Error, ErrorKind};
use crate::mounts::{Asking, Authorise, Mount};

/// Says no where a key or prefix has `no` in it, breaks where it has `broken`, and remembers what it was asked.
#[derive(Debug, Default)]
struct Guard(Mutex<Vec<Asking>>);

impl Guard {
    fn take(&self) -> Vec<(&'static str, String)> {
        std::mem::take(&mut *self.0.lock()).into_iter().map(|asking| (asking.operation, asking.key)).collect()
    }
}

#[async_trait]
impl Authorise for Guard {
    async fn permits(&self, asking: &Asking) -> crate::error::Result<bool> {
        self.0.lock().push(asking.clone());
        if asking.key.contains("broken") {
            return Err(Error::new(ErrorKind::Provider(sluice_provider::ErrorKind::TimedOut), "authorise"));
        }
        Ok(!asking.key.contains("no"))
    }

    async fn load(&self) -> crate::error::Result<()> {
        Ok(())
    }
}

/// Ann's bucket with a mount at `in/` that has an authoriser.
async fn guarded() -> (Gateway, Arc<Guard>) {
    let g = Gateway::with_bucket().await;
    let guard = Arc::<Guard>::default();
    let namespace = g.namespaces.get("bucket").await.unwrap();
    let provider = Arc::new(sluice_provider_memory::Memory::new(sluice_provider_memory::Settings::default()));
    let mount = Mount { prefix: "in/".into(), kind: "memory".into(), provider, authoriser: Some(Arc::clone(&guard) as _) };
    namespace.mounts.store(Arc::new(namespace.mounts.load().with(mount)));
    (g, guard)
}

#[tokio::test]
async fn it_refuses_the_owner_and_root_what_is_in_its_mount() {
    let (g, guard) = guarded().await;
    assert_eq!(g.put("/bucket/in/a", "x").await.status, 200);
    assert_eq!(g.get("/bucket/in/a").await.body, b"x");
    let first = guard.0.lock()[0].clone();
    let sender = first.sender.unwrap();
    assert_eq!((first.operation, first.bucket.as_str(), first.key.as_str()), ("PutObject", "bucket", "in/a"));
    assert_eq!((sender.access_key.as_str(), first.address), (ANN.0, Some(IpAddr::V4(Ipv4Addr::LOCALHOST))));
    assert!(sender.arn.starts_with("arn:aws:iam::") && sender.arn.ends_with(":root"), "{}", sender.arn);
    for who in [ANN, ROOT] {
        for (method, target) in [
            ("GET", "/bucket/in/no"),
            ("HEAD", "/bucket/in/no"),
            ("PUT", "/bucket/in/no"),
            ("DELETE", "/bucket/in/no"),
            ("POST", "/bucket/in/no?uploads"),
            ("GET", "/bucket/in/no?acl"),
            ("GET", "/bucket/in/no?tagging"),
            ("GET", "/bucket?list-type=2&prefix=in%2Fno"),
            ("GET", "/bucket?versions&prefix=in%2Fno"),
            ("GET", "/bucket?uploads&prefix=in%2Fno"),
        ] {
            assert_eq!(g.ask(method, target).by(who).send().await.status, 403, "{method} {target}");
        }
    }
    // Broken is refused, too.
    assert_eq!(g.get("/bucket/in/broken").await.error(), (503, "ServiceUnavailable"));
    guard.take();
    // Other mounts do not know it.
    assert_eq!(g.put("/bucket/no", "x").await.status, 200);
    assert_eq!(g.get("/bucket/no").await.status, 200);
    assert_eq!(g.get("/bucket?list-type=2&prefix=no").await.elements("Key"), ["no"]);
    assert_eq!(g.get("/bucket?policy").await.error(), (404, "NoSuchBucketPolicy"));
    assert!(guard.take().is_empty());
    // What passes by it is asked about.
    assert_eq!(g.get("/bucket?list-type=2").await.elements("Key"), ["in/a", "no"]);
    assert_eq!(guard.take(), [("ListObjectsV2", String::new())]);
}

#[tokio::test]
async fn each_key_of_a_request_is_asked_about() {
    let (g, guard) = guarded().await;
    for key in ["in/a", "in/b", "c"] {
        assert_eq!(g.put(&format!("/bucket/{key}"), "x").await.status, 200);
    }
    guard.take();
    let copied = |from: &'static str, to: &'static str| g.ask("PUT", to).header("x-amz-copy-source", from).send();
    assert_eq!(copied("/bucket/in/a", "/bucket/d").await.status, 200);
    assert_eq!(guard.take(), [("GetObject", "in/a".to_owned())]);
    assert_eq!(copied("/bucket/in/no", "/bucket/d").await.status, 403);
    assert_eq!(copied("/bucket/c", "/bucket/in/no").await.status, 403);
    guard.take();
    let named: String =
        ["in/a", "in/no", "in/broken", "c"].iter().map(|key| format!("<Object><Key>{key}</Key></Object>")).collect();
    let body = format!("<Delete>{named}</Delete>");
    let answer = g.ask("POST", "/bucket?delete").header("content-md5", &md5(body.as_bytes())).body(body).send().await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.elements("Code"), ["AccessDenied", "ServiceUnavailable"]);
    assert_eq!(guard.take().len(), 3);
    assert_eq!(g.get("/bucket/in/a").await.status, 404);
    let tags = "<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>";
    assert_eq!(g.put("/bucket/in/b?tagging", tags).await.status, 200);
    assert_eq!(g.put("/bucket/in/no?tagging", tags).await.status, 403);
}

#[tokio::test]
async fn it_gives_nobody_what_policies_and_lists_do_not() {
    let (g, guard) = guarded().await;
    assert_eq!(g.put("/bucket/in/a", "x").await.status, 200);
    guard.take();
    assert_eq!(g.ask("GET", "/bucket/in/a").by(BOB).send().await.status, 403, "it lets through, and the list does not");
    let deny = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::bucket/in/*"}]}"#;
    assert_eq!(g.put("/bucket?policy", deny).await.status, 204);
    guard.take();
    assert_eq!(g.get("/bucket/in/a").await.status, 403);
    assert!(guard.take().is_empty(), "what a policy refuses nobody is asked about");
    let allow = deny.replace("Deny", "Allow");
    assert_eq!(g.put("/bucket?policy", allow).await.status, 204);
    assert_eq!(g.ask("GET", "/bucket/in/a").by(BOB).send().await.status, 200);
    assert_eq!(g.ask("GET", "/bucket/in/no").by(BOB).send().await.status, 403, "a policy that allows does not help");
    let anonymous = g.ask("GET", "/bucket/in/a").anonymous().send().await;
    assert_eq!(anonymous.status, 200);
    assert!(guard.0.lock().last().unwrap().sender.is_none());
}
