//! A second gateway, with a bucket for each test, and the credentials that a mount of it needs.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::SystemTime;

use compat_tests::{ACCESS_KEY, Gateway, SECRET_KEY};
use s3s_sigv4::{AmzDate, Payload};
use sha2::{Digest, Sha256};
use sluice_provider_s3::{Answers, Settings};

/// A gateway that all tests of a program share, and a directory with credentials for it.
pub(crate) struct Remote {
    pub(crate) gateway: Gateway,
    work: tempfile::TempDir,
    buckets: AtomicUsize,
}

impl Remote {
    /// Starts a gateway whose buckets lie on this kind of mount.
    pub(crate) fn start(provider: &str) -> Self {
        let gateway = Gateway::start(&format!("[default_mount]\nprovider = \"{provider}\"\n"));
        let work = tempfile::tempdir().unwrap();
        let text = format!("[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n");
        std::fs::write(work.path().join("credentials"), text).unwrap();
        Self { gateway, work, buckets: AtomicUsize::new(0) }
    }

    pub(crate) fn credentials(&self) -> PathBuf {
        self.work.path().join("credentials")
    }

    /// A new bucket, and a mount of it whose answers are exact.
    pub(crate) fn settings(&self) -> Settings {
        let bucket = format!("bucket-{}", self.buckets.fetch_add(1, Ordering::Relaxed));
        self.create(&bucket);
        let mut settings = Settings::new(self.gateway.endpoint.parse().unwrap(), bucket);
        settings.credentials_file = Some(self.credentials());
        settings.answers = Answers::Exact;
        settings
    }

    /// The same of a bucket with versioning, and the mount takes its versions for its own.
    #[allow(dead_code, reason = "not every program uses all of it")]
    pub(crate) fn settings_with_versions(&self) -> Settings {
        let mut settings = self.settings();
        self.set_versioning(&settings.bucket, "Enabled");
        settings.versions = true;
        settings
    }

    #[allow(dead_code, reason = "not every program uses all of it")]
    pub(crate) fn set_versioning(&self, bucket: &str, state: &str) {
        let document = format!("<VersioningConfiguration><Status>{state}</Status></VersioningConfiguration>");
        self.send("PUT", bucket, &[("versioning", "")], &document);
    }

    fn create(&self, bucket: &str) {
        self.send("PUT", bucket, &[], "");
    }

    /// Makes a signed call to a bucket, which must succeed; what it answers.
    pub(crate) fn send(&self, method: &str, bucket: &str, query: &[(&str, &str)], body: &str) -> String {
        let host = self.gateway.endpoint.strip_prefix("http://").unwrap();
        let now = time::OffsetDateTime::from(SystemTime::now());
        let format = time::macros::format_description!("[year][month][day]T[hour][minute][second]Z");
        let stamp = now.format(format).unwrap();
        let date = AmzDate::parse(&stamp).unwrap();
        let digest = hex::encode(Sha256::digest(body));
        let path = format!("/{bucket}");
        let headers = [("host", host), ("x-amz-content-sha256", digest.as_str()), ("x-amz-date", &stamp)];
        let payload = Payload::SingleChunk(&digest);
        let canonical = s3s_sigv4::create_canonical_request(method, &path, query, headers, payload);
        let to_sign = s3s_sigv4::create_string_to_sign(&canonical, &date, "us-east-1", "s3");
        let signature = s3s_sigv4::calculate_signature(&to_sign, SECRET_KEY, &date, "us-east-1", "s3");
        let scope = date.fmt_date();
        let asked: Vec<String> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let (asked, length) = (asked.join("&"), body.len());
        let request = format!(
            "{method} {path}?{asked} HTTP/1.1\r\nhost: {host}\r\nx-amz-date: {stamp}\r\nx-amz-content-sha256: {digest}\r\n\
             authorization: AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{scope}/us-east-1/s3/aws4_request,\
             SignedHeaders=host;x-amz-content-sha256;x-amz-date,Signature={signature}\r\ncontent-length: {length}\r\n\
             connection: close\r\n\r\n{body}"
        );
        let mut connection = TcpStream::connect(host).unwrap();
        connection.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        answer
    }
}

/// The gateway that tests share while any of them needs it. A static would outlive the program, and the process with it.
pub(crate) fn shared(slot: &Mutex<Weak<Remote>>, provider: &str) -> Arc<Remote> {
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    slot.upgrade().unwrap_or_else(|| {
        let remote = Arc::new(Remote::start(provider));
        *slot = Arc::downgrade(&remote);
        remote
    })
}
