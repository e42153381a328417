//! A server that answers as a script says.
#![allow(dead_code, reason = "not every program uses all of it")]

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sluice_provider_s3::{Answers, Conditions, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What came in with one request: its head, and as much of its body as came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) head: String,
    pub(crate) body: usize,
    pub(crate) whole: bool,
}

pub(crate) type Script = dyn Fn(&str, usize) -> Reply + Send + Sync;

/// What a server does with a request.
pub(crate) enum Reply {
    /// This text, as it is; then the connection stays.
    Say(String),
    /// This text, then the connection is cut.
    Cut(String),
    /// Nothing, ever.
    Hang,
}

/// A server that answers as its script says, and remembers what it was asked.
pub(crate) struct Server {
    pub(crate) address: String,
    pub(crate) seen: Arc<Mutex<Vec<Seen>>>,
    /// Connections so far.
    pub(crate) connections: Arc<AtomicUsize>,
}

impl Server {
    pub(crate) async fn start(script: impl Fn(&str, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (seen, script): (Arc<Mutex<Vec<Seen>>>, Arc<Script>) = (Arc::default(), Arc::new(script));
        let told = seen.clone();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let (told, script) = (told.clone(), script.clone());
                tokio::spawn(async move {
                    let _ = serve(connection, &told, &*script).await;
                });
            }
        });
        Self { address, seen, connections }
    }

    pub(crate) fn settings(&self, dir: &tempfile::TempDir) -> Settings {
        let file = dir.path().join("credentials");
        std::fs::write(&file, "[default]\naws_access_key_id = A\naws_secret_access_key = S3CRET\n").unwrap();
        let mut settings = Settings::new(format!("http://{}", self.address).parse().unwrap(), "b");
        settings.credentials_file = Some(file);
        settings.conditions = Conditions::On;
        settings.answers = Answers::Quick;
        settings.retries = 2;
        settings.answer_timeout = Duration::from_millis(300);
        settings.buffer_bytes = 1000;
        settings
    }

    pub(crate) fn asked(&self, what: &str) -> Vec<Seen> {
        self.seen.lock().unwrap().iter().filter(|seen| seen.head.contains(what)).cloned().collect()
    }
}

async fn serve(mut connection: TcpStream, told: &Mutex<Vec<Seen>>, script: &Script) -> io::Result<()> {
    let mut input = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = input.windows(4).position(|w| w == b"\r\n\r\n") {
                break end + 4;
            }
            if connection.read_buf(&mut input).await? == 0 {
                return Ok(());
            }
        };
        let head = String::from_utf8_lossy(&input[..end]).into_owned();
        input.drain(..end);
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
        let mut whole = true;
        while input.len() < length {
            if connection.read_buf(&mut input).await? == 0 {
                whole = false;
                break;
            }
        }
        let body = input.len().min(length);
        input.drain(..body);
        let nth = {
            let mut told = told.lock().unwrap();
            told.push(Seen { head: head.clone(), body, whole });
            told.iter().filter(|seen| seen.head.lines().next() == head.lines().next()).count() - 1
        };
        if !whole {
            return Ok(());
        }
        match script(&head, nth) {
            Reply::Say(text) => connection.write_all(text.as_bytes()).await?,
            Reply::Cut(text) => {
                connection.write_all(text.as_bytes()).await?;
                return connection.shutdown().await;
            }
            Reply::Hang => std::future::pending().await,
        }
    }
}

pub(crate) const DATE: &str = "Sat, 01 Feb 2025 10:00:00 GMT";

pub(crate) fn answer(status: &str, headers: &str, body: &str) -> Reply {
    let length = if headers.contains("content-length") { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    Reply::Say(format!("HTTP/1.1 {status}\r\ndate: {DATE}\r\n{length}{headers}\r\n{body}"))
}

pub(crate) fn fault(status: &str, code: &str) -> Reply {
    answer(status, "", &format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>m</Message></Error>"))
}

pub(crate) fn object(head: &str, body: &str) -> Reply {
    let headers = format!("etag: \"tag\"\r\nlast-modified: {DATE}\r\ncontent-length: {}\r\n", body.len());
    answer("200 OK", &headers, if head.starts_with("HEAD") { "" } else { body })
}

/// A script for one kind of request; the bucket is there.
pub(crate) fn bucket_and(
    script: impl Fn(&str, usize) -> Reply + Send + Sync + 'static,
) -> impl Fn(&str, usize) -> Reply + Send + Sync {
    move |head, nth| if head.starts_with("HEAD /b HTTP") { answer("200 OK", "", "") } else { script(head, nth) }
}
