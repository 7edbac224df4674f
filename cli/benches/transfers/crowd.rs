//! Many clients at once: whole pulls side by side, and hundreds that each want another range.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Barrier;
use waag_schema::Sha256;

use super::data::Model;
use super::process::{Cost, now, read, run_all};
use super::site::Bench;
use super::table::{Row, Table};
use super::{Setting, fresh};

const PULLS: usize = 64;
const CLIENTS: usize = 500;
const RANGES_EACH: usize = 4;
const RANGE_BYTES: u64 = 1 << 20;

pub(crate) fn run(setting: &Setting, table: &mut Table) {
    table.section("Many clients of one site");
    let model = Model::make(&setting.directory.join("model"), 256_000_000, 2);
    let bench = Bench::start(&setting.directory.join("site"));
    bench.push(&model.directory, "bench/model:1.0", &[]);
    let out = setting.directory.join("out");
    fresh(&out);
    let before = bench.cost_so_far();
    let pulls = (0..PULLS).map(|number| bench.pull_command("bench/model:1.0", &out.join(number.to_string())));
    let pulls = run_all(pulls.collect(), PULLS);
    let bytes = model.bytes * PULLS as u64;
    let cost = bench.cost_so_far().since(&before);
    table.row(&Row::of(
        "64 pulls of 256 MB side by side, one client's memory",
        &pulls,
        bytes,
    ));
    table.row(&Row::of(
        "the server meanwhile",
        &cost.beside(&Cost {
            client_cpu: 0.0,
            peak_kib: 0,
            ..pulls
        }),
        bytes,
    ));
    fresh(&out);
    ranges(&bench, &model, table);
    bench.stop();
    model.remove();
}

fn ranges(bench: &Bench, model: &Model, table: &mut Table) {
    let token = std::fs::read_to_string(bench.data().join("admin-token")).expect("it was made");
    let files: Vec<(Sha256, u64)> = model
        .files
        .iter()
        .map(|path| (Sha256::of(&read(path)), model.bytes / 2 - 4096))
        .collect();
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let before = bench.cost_so_far();
    let begun = now();
    let mut times: Vec<Duration> = Vec::new();
    let mut failed = 0;
    runtime.block_on(async {
        let start = std::sync::Arc::new(Barrier::new(CLIENTS));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (file, size) = files[client % files.len()];
                let (address, token, start) =
                    (bench.address().to_owned(), token.trim().to_owned(), start.clone());
                tokio::spawn(async move {
                    start.wait().await;
                    let mut times = Vec::new();
                    for turn in 0..RANGES_EACH {
                        let begin = (client * RANGES_EACH + turn) as u64 * 777_777 % (size - RANGE_BYTES);
                        times.push(range(&address, &token, &file, begin).await);
                    }
                    times
                })
            })
            .collect();
        for client in clients {
            for time in client.await.expect("no panic") {
                match time {
                    Ok(time) => times.push(time),
                    Err(error) => {
                        failed += 1;
                        println!("{error}");
                    }
                }
            }
        }
    });
    times.sort();
    let percentile = |share: f64| {
        let at = (times.len() as f64 * share) as usize;
        times
            .get(at.min(times.len().saturating_sub(1)))
            .map_or(f64::NAN, Duration::as_secs_f64)
    };
    let cost = Cost {
        wall: begun.elapsed(),
        ..bench.cost_so_far().since(&before)
    };
    let bytes = times.len() as u64 * RANGE_BYTES;
    table.row(
        &Row::of("500 clients, 4 ranges of 1 MiB each", &cost, bytes).note(format!(
            "{failed} failed; first byte after {:.3} s (median), {:.3} s (p99)",
            percentile(0.5),
            percentile(0.99)
        )),
    );
}

/// Asks for a range, reads all of it, and returns how long the first byte took. A site that is busy is asked again
/// after the time it names, which counts.
async fn range(address: &str, token: &str, file: &Sha256, begin: u64) -> std::io::Result<Duration> {
    let begun = now();
    let other = |text: String| std::io::Error::other(text);
    let mut stream = TcpStream::connect(address).await?;
    let end = begin + RANGE_BYTES - 1;
    let request = format!(
        "GET /api/v1/artifacts/bench/model/files/{file} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\
         range: bytes={begin}-{end}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut first = [0; 1];
    stream.read_exact(&mut first).await?;
    let time = begun.elapsed();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await?;
    let head = String::from_utf8_lossy(&rest[..rest.len().min(400)]).into_owned();
    let head = head.split("\r\n\r\n").next().unwrap_or_default().to_owned();
    if !head.starts_with("TTP/1.1 206") {
        return Err(other(format!("answered {head}")));
    }
    if rest.len() as u64 <= RANGE_BYTES {
        return Err(other("the answer broke off".to_owned()));
    }
    Ok(time)
}
