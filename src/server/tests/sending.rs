//! Answers whose bodies are files, sent by the kernel.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{Advice, fadvise};

use super::*;
use crate::s3::{FileBody, SendsFiles};
use crate::transfer::pieces;

const MIB: usize = 1024 * 1024;

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 % 251) as u8).collect()
}

fn file(bytes: &[u8]) -> Arc<File> {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file.sync_all().unwrap();
    Arc::new(file)
}

fn of_file(file: &Arc<File>, range: Range<u64>) -> Response<Full<Bytes>> {
    let bytes = range.end - range.start;
    let mut response = text(StatusCode::OK, "");
    response.extensions_mut().insert(FileBody::new(pieces(Arc::clone(file), range), bytes));
    response.headers_mut().insert("content-length", bytes.into());
    response
}

/// Answers with the range of the file that the path names (`/FROM/TO`), with a few bytes of its own to anything else.
async fn serve(file: Arc<File>, given: Given) -> Rig {
    let service = move |request: Request<RequestBody>| {
        let file = Arc::clone(&file);
        async move {
            assert!(request.extensions().get::<SendsFiles>().is_some());
            let mut numbers = request.uri().path().split('/').filter_map(|n| n.parse().ok());
            match (numbers.next(), numbers.next()) {
                (Some(from), Some(to)) => of_file(&file, from..to),
                _ => text(StatusCode::OK, "small"),
            }
        }
    };
    start(service, given).await
}

/// Reads one answer with a Content-Length.
async fn answer(stream: &mut TcpStream, has_body: bool) -> Vec<u8> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        timeout(SOON, stream.read_exact(&mut byte)).await.unwrap().unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200"), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
    let mut body = vec![0; if has_body { length } else { 0 }];
    timeout(SOON, stream.read_exact(&mut body)).await.unwrap().unwrap();
    body
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
}

async fn until_nobody_is_inside(rig: &Rig) {
    timeout(SOON, async {
        while rig.gate.inside() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("places are given back");
}

#[tokio::test]
async fn files_and_bytes_share_a_connection_in_any_order() {
    let bytes = pattern(3 * MIB + 17);
    let rig = serve(file(&bytes), Given::default()).await;
    let all = format!("/0/{}", bytes.len());
    // All at once: nothing of one answer gets into another.
    let asked = [all.as_str(), "/small", "/1/2", "/70000/70000", "/1048577/3145745", "/small", all.as_str()];
    let mut stream = connect(&rig, &asked.map(get).concat()).await;
    for path in asked {
        let seen = answer(&mut stream, true).await;
        let numbers: Vec<usize> = path.split('/').filter_map(|n| n.parse().ok()).collect();
        match numbers[..] {
            [from, to] => assert!(seen == bytes[from..to], "{path}: other bytes"),
            _ => assert_eq!(seen, b"small"),
        }
    }
    // And one after the other.
    for path in asked.iter().rev() {
        stream.write_all(get(path).as_bytes()).await.unwrap();
        answer(&mut stream, true).await;
    }
    let metrics = rig.metrics.render(false);
    assert!(metrics.contains("sluice_http_responses_cut_total 0"), "{metrics}");
}

#[tokio::test]
async fn a_head_sends_nothing_of_the_file() {
    let bytes = pattern(MIB);
    let file = file(&bytes);
    let rig = serve(Arc::clone(&file), Given::default()).await;
    let head = format!("HEAD /0/{MIB} HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut stream = connect(&rig, &(head + &get("/5/9"))).await;
    assert!(answer(&mut stream, false).await.is_empty());
    assert_eq!(answer(&mut stream, true).await, bytes[5..9]);
    until_nobody_is_inside(&rig).await;
    assert!(rig.metrics.render(false).contains("sluice_http_responses_cut_total 0"));
}

#[tokio::test]
async fn what_is_not_in_memory_comes_all_the_same() {
    let bytes = pattern(5 * MIB);
    let file = file(&bytes);
    let rig = serve(Arc::clone(&file), Given::default()).await;
    let mut stream = connect(&rig, "").await;
    for cold in [0..5, 1..2, 4..5] {
        let length = std::num::NonZeroU64::new(((cold.end - cold.start) * MIB) as u64);
        fadvise(&*file, (cold.start * MIB) as u64, length, Advice::DontNeed).unwrap();
        stream.write_all(get(&format!("/0/{}", bytes.len())).as_bytes()).await.unwrap();
        assert!(answer(&mut stream, true).await == bytes, "other bytes");
    }
}

#[tokio::test]
async fn clients_that_hang_up_leave_nothing_behind() {
    let file = file(&pattern(16 * MIB));
    let rig = serve(Arc::clone(&file), Given::default()).await;
    let ask = get(&format!("/0/{}", 16 * MIB));
    for taken in [1, 1000, 300_000] {
        for _ in 0..8 {
            let mut stream = connect(&rig, &ask).await;
            timeout(SOON, stream.read_exact(&mut vec![0; taken])).await.unwrap().unwrap();
        }
    }
    until_nobody_is_inside(&rig).await;
    timeout(SOON, async {
        // The service has one, and so have we.
        while Arc::strong_count(&file) > 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the files are closed");
    let mut stream = connect(&rig, &get("/0/3")).await;
    assert_eq!(answer(&mut stream, true).await.len(), 3);
}

#[tokio::test]
async fn a_file_that_is_cut_short_costs_its_connection_and_nothing_else() {
    let bytes = pattern(32 * MIB);
    let file = file(&bytes);
    let rig = serve(Arc::clone(&file), Given::default()).await;
    let mut stream = connect(&rig, &get(&format!("/0/{}", bytes.len()))).await;
    read_some(&mut stream, "\r\n\r\n").await;
    // The client stalls; what the sockets hold is far from all.
    file.set_len(MIB as u64).unwrap();
    let mut seen = Vec::new();
    // A reset is an end too.
    let _ = timeout(SOON, stream.read_to_end(&mut seen)).await.expect("the connection ends");
    assert!(seen.len() < bytes.len() - 2 * MIB, "{} bytes of a file that has them no more", seen.len());
    until_nobody_is_inside(&rig).await;
    let mut stream = connect(&rig, &get("/7/1048576")).await;
    assert!(answer(&mut stream, true).await == bytes[7..MIB], "other bytes");
}

#[tokio::test]
async fn a_client_that_takes_no_more_of_a_file_is_cut() {
    let idle = Duration::from_millis(200);
    let file = file(&pattern(32 * MIB));
    let rig = serve(file, Given { idle, ..Given::default() }).await;
    let mut stream = connect(&rig, &get(&format!("/0/{}", 32 * MIB))).await;
    read_some(&mut stream, "\r\n\r\n").await;
    until_nobody_is_inside(&rig).await;
    assert!(rig.metrics.render(false).contains("sluice_http_responses_cut_total 1"));
}
