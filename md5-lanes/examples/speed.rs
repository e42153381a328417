//! How fast each kernel is with so many streams, per second of CPU time: `cargo run --release -p sluice-md5-lanes --example speed`.
#![allow(clippy::print_stdout, reason = "it says it")]

use sluice_md5_lanes::{Kernel, Md5, update_all};
use std::hint::black_box;

/// Seconds that this thread has had a processor (proc(5), schedstat): a busy machine does not count.
fn seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|nanos| nanos.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1e9
}

fn main() {
    for (bytes, times) in [(4 << 10, 4000), (256 << 10, 60)] {
        println!("pieces of {} KiB, GB/s of all streams together", bytes >> 10);
        let body = vec![7; bytes];
        let began = seconds();
        for _ in 0..4 * times {
            black_box(<md5::Md5 as md5::Digest>::digest(black_box(&body)));
        }
        println!("the crate md-5: {:.2}", (bytes * 4 * times) as f64 / (seconds() - began) / 1e9);
        for kernel in Kernel::available() {
            let mut line = format!("{:8}", kernel.name());
            for count in [1, 2, 3, 4, 6, 8, 12, 16, 32] {
                let bodies: Vec<Vec<u8>> = (0..count).map(|n| vec![n as u8; bytes]).collect();
                let mut streams = vec![Md5::new(); count];
                let mut best = f64::INFINITY;
                for _ in 0..5 {
                    let began = seconds();
                    for _ in 0..times / count + 1 {
                        let mut jobs: Vec<_> =
                            streams.iter_mut().zip(&bodies).map(|(md5, body)| (md5, body.as_slice())).collect();
                        update_all(kernel, black_box(&mut jobs));
                    }
                    best = best.min(seconds() - began);
                }
                let all = (bytes * count * (times / count + 1)) as f64;
                line += &format!("  {count}: {:.2}", all / best / 1e9);
            }
            println!("{line}");
        }
    }
}
