//! Moving bytes, measured as whole programs: the `waag` binary against this machine's limits and against the peers
//! that are installed (docker-registry with curl and skopeo, nginx with curl, restic), all in one run.
//!
//! `cargo bench -p waag --bench transfers [-- SECTION...]`; sections: `machine ingest pull small memory crowd`, all
//! without one. `WAAG_BENCH_BYTES` (default 4 GB) is the model's size, `WAAG_BENCH_DIR` where it all happens (default:
//! the system's temporary directory; it needs five times the model). Figures are medians of `WAAG_BENCH_ROUNDS` runs
//! (default 3); CPU seconds are of all processes named in the row; memory is the largest of any one of them.

#![expect(clippy::print_stdout, reason = "a benchmark prints")]

mod crowd;
mod data;
mod machine;
mod peers;
mod process;
mod site;
mod table;

use std::path::{Path, PathBuf};

use self::data::Model;
use self::machine::Limits;
use self::peers::{DockerRegistry, Nginx, Restic};
use self::process::{Cost, installed};
use self::site::Bench;
use self::table::{Row, Table};

/// Where a run happens, and how large it is.
pub(crate) struct Setting {
    directory: PathBuf,
    bytes: u64,
    rounds: usize,
}

fn number(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn main() {
    let known = ["machine", "ingest", "pull", "small", "memory", "crowd"];
    let asked: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with("--"))
        .collect();
    if let Some(unknown) = asked.iter().find(|one| !known.contains(&one.as_str())) {
        println!("there is no section `{unknown}`; there are {}", known.join(", "));
        return;
    }
    let wanted = |section: &str| asked.is_empty() || asked.iter().any(|one| one == section);
    let base = std::env::var_os("WAAG_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let directory = base.join(format!("waag-bench-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("the benchmark's directory can be made");
    let setting = Setting {
        directory: directory.clone(),
        bytes: number("WAAG_BENCH_BYTES", 4_000_000_000),
        rounds: number("WAAG_BENCH_ROUNDS", 3) as usize,
    };
    let mut table = Table::default();
    let limits = Limits::measure(&directory);
    limits.show(&mut table);
    if wanted("ingest") || wanted("pull") {
        let model = Model::make(&directory.join("model"), setting.bytes, 8);
        if wanted("ingest") {
            ingest(&setting, &model, &limits, &mut table);
        }
        if wanted("pull") {
            pull(&setting, &model, &limits, &mut table);
        }
        model.remove();
    }
    if wanted("small") {
        small(&setting, &mut table);
    }
    if wanted("memory") {
        memory(&setting, &mut table);
    }
    if wanted("crowd") {
        crowd::run(&setting, &mut table);
    }
    table.print();
    let _ = std::fs::remove_dir_all(directory);
}

/// Runs something a few times, each from scratch, and keeps the median by time.
fn median(rounds: usize, mut run: impl FnMut(usize) -> Cost) -> Cost {
    let mut costs: Vec<Cost> = (0..rounds).map(&mut run).collect();
    costs.sort_by_key(|cost| cost.wall);
    costs.swap_remove(rounds / 2)
}

fn fresh(path: &Path) {
    let _ = std::fs::remove_dir_all(path);
    std::fs::create_dir_all(path).expect("a directory can be made");
}

fn ingest(setting: &Setting, model: &Model, limits: &Limits, table: &mut Table) {
    table.section(&format!("Push of {} in 8 files", table::gigabytes(model.bytes)));
    let mut rates = Vec::new();
    for (label, flags) in [
        ("waag push", &[][..]),
        ("waag push --no-encode", &["--no-encode"][..]),
    ] {
        let cost = median(setting.rounds, |_| {
            let bench = Bench::start(&setting.directory.join("site"));
            let push = bench.push(&model.directory, "bench/model:1.0", flags);
            bench.stop().beside(&push)
        });
        rates.push(cost.rate(model.bytes));
        let floor = limits.sha256_seconds_per_gb + limits.blake3_seconds_per_gb;
        let server = cost.server_cpu_per_gb(model.bytes);
        table.row(&Row::of(label, &cost, model.bytes).note(format!(
            "server {server:.2} CPU s/GB: one SHA-256 and one BLAKE3 pass {floor:.2}, and {:.2}",
            server - floor
        )));
    }
    if installed("docker-registry") && installed("curl") {
        let cost = median(setting.rounds, |_| {
            let registry = DockerRegistry::start(&setting.directory.join("docker"));
            let push = registry.push(model);
            registry.stop().beside(&push)
        });
        let rate = cost.rate(model.bytes);
        table.row(
            &Row::of("curl to docker-registry", &cost, model.bytes).note(format!(
                "waag {:.2} and {:.2} times as fast",
                rates[0] / rate,
                rates[1] / rate
            )),
        );
    } else {
        table.skip("docker-registry with curl", "not installed");
    }
    if installed("restic") {
        let cost = median(1, |_| {
            Restic::init(&setting.directory.join("restic")).backup(&model.directory)
        });
        table.row(&Row::of("restic backup", &cost, model.bytes).note("no compression".to_owned()));
    } else {
        table.skip("restic", "not installed");
    }
    second(setting, model, table);
}

/// What a push costs when nearly everything is there.
fn second(setting: &Setting, model: &Model, table: &mut Table) {
    let bench = Bench::start(&setting.directory.join("site"));
    bench.push(&model.directory, "bench/model:1.0", &[]);
    let before = bench.moved();
    let again = bench.push(&model.directory, "bench/model:1.0", &[]);
    let moved = bench.moved();
    table.row(
        &Row::of("waag push, nothing new", &again, model.bytes)
            .note(format!("{} bytes moved", moved - before)),
    );
    model.change_one_tensor();
    let changed = bench.push(&model.directory, "bench/model:1.1", &[]);
    let moved = bench.moved() - moved;
    let beyond = changed.wall.as_secs_f64() - again.wall.as_secs_f64();
    table.row(
        &Row::of("waag push, one tensor changed", &changed, model.bytes).note(format!(
            "{} moved, {beyond:.2} s beyond the push of nothing new",
            table::megabytes(moved)
        )),
    );
    bench.stop();
}

fn pull(setting: &Setting, model: &Model, limits: &Limits, table: &mut Table) {
    table.section(&format!("Pull of {} in 8 files", table::gigabytes(model.bytes)));
    let out = setting.directory.join("out");
    let bench = Bench::start(&setting.directory.join("site"));
    bench.push(&model.directory, "bench/model:1.0", &[]);
    bench.push(&model.directory, "bench/raw:1.0", &["--no-encode"]);
    let mut rates = Vec::new();
    for (label, reference) in [
        ("waag pull", "bench/model:1.0"),
        ("waag pull, stored raw", "bench/raw:1.0"),
    ] {
        let cost = median(setting.rounds, |_| {
            fresh(&out);
            let before = bench.cost_so_far();
            let pull = bench.pull(reference, &out);
            bench.cost_so_far().since(&before).beside(&pull)
        });
        let rate = cost.rate(model.bytes);
        rates.push(rate);
        let limit = limits.loopback_gb_per_second.min(limits.disk_write_gb_per_second);
        table.row(&Row::of(label, &cost, model.bytes).note(format!(
            "to disk, verified; {:.2} of the slower of loopback and disk",
            rate / limit
        )));
    }
    bench.stop();
    match Bench::start_over_tls(&setting.directory.join("site")) {
        Some(bench) => {
            bench.push(&model.directory, "bench/raw:1.0", &["--no-encode"]);
            let cost = median(setting.rounds, |_| {
                fresh(&out);
                let before = bench.cost_so_far();
                let pull = bench.pull("bench/raw:1.0", &out);
                bench.cost_so_far().since(&before).beside(&pull)
            });
            bench.stop();
            let row = Row::of("waag pull, stored raw, over TLS", &cost, model.bytes);
            table.row(&row.note(format!(
                "{:.2} of the rate in clear text",
                cost.rate(model.bytes) / rates[1]
            )));
        }
        None => table.skip("waag pull over TLS", "openssl is not installed"),
    }
    let mut beside = |label: &str, cost: &Cost| {
        let rate = cost.rate(model.bytes);
        table.row(&Row::of(label, cost, model.bytes).note(format!(
            "not verified; waag {:.2} and {:.2} of its rate",
            rates[0] / rate,
            rates[1] / rate
        )));
    };
    if installed("docker-registry") && installed("curl") {
        let registry = DockerRegistry::start(&setting.directory.join("docker"));
        registry.push(model);
        let cost = median(setting.rounds, |_| {
            fresh(&out);
            let before = registry.cost_so_far();
            let pull = registry.pull(model, &out);
            registry.cost_so_far().since(&before).beside(&pull)
        });
        beside("curl from docker-registry", &cost);
        if installed("skopeo") {
            let cost = median(setting.rounds, |_| {
                fresh(&out);
                let before = registry.cost_so_far();
                let copy = registry.skopeo(model, &out);
                registry.cost_so_far().since(&before).beside(&copy)
            });
            beside("skopeo copy from docker-registry", &cost);
        }
        registry.stop();
    }
    if installed("nginx") && installed("curl") {
        let nginx = Nginx::start(&setting.directory.join("nginx"), &model.directory);
        let cost = median(setting.rounds, |_| {
            fresh(&out);
            nginx.pull(model, &out)
        });
        beside("curl from nginx", &cost);
        nginx.stop();
    }
    fresh(&out);
}

fn small(setting: &Setting, table: &mut Table) {
    table.section("Many small files");
    let files = setting.directory.join("files");
    data::small_files(&files, 10_000, 10_000);
    let bench = Bench::start(&setting.directory.join("site"));
    let push = bench.push(&files, "bench/small:1.0", &["--kind", "dataset"]);
    table.row(&Row::of("waag push, 10,000 of 10 kB", &push, 100_000_000));
    let out = setting.directory.join("out");
    fresh(&out);
    let pull = bench.pull("bench/small:1.0", &out);
    table.row(&Row::of("waag pull, 10,000 of 10 kB", &pull, 100_000_000));
    fresh(&out);
    data::small_files(&files, 100_000, 1000);
    let plan = bench.push(&files, "bench/many:1.0", &["--kind", "dataset", "--dry-run"]);
    table.row(&Row::of(
        "waag push --dry-run, 100,000 of 1 kB",
        &plan,
        100_000_000,
    ));
    bench.stop();
    fresh(&files);
}

fn memory(setting: &Setting, table: &mut Table) {
    table.section("Memory");
    let sparse = setting.directory.join("sparse");
    fresh(&sparse);
    let bytes = 64 << 30;
    data::sparse_file(&sparse.join("weights.bin"), bytes);
    let bench = Bench::start(&setting.directory.join("site"));
    let push = bench.push(&sparse, "bench/sparse:1.0", &[]);
    table.row(&Row::of("waag push, one sparse file of 64 GiB", &push, bytes));
    let out = setting.directory.join("out");
    fresh(&out);
    let pull = bench.pull("bench/sparse:1.0", &out);
    table.row(&Row::of("waag pull of it", &pull, bytes));
    let server = bench.stop();
    table.row(&Row::of("the server meanwhile", &server, bytes));
    fresh(&out);
    fresh(&sparse);
}
