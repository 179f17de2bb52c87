//! The very same WGSL files in a browser: launches of ops, traced on an adapter of this machine, are replayed by a page
//! in headless Chromium, whose results are compared with those of the CPU.

#[path = "../skip/mod.rs"]
mod skip;

use lea::device::webgpu::adapter::{self, Pretence};
use lea::device::webgpu::{Tier, Traced};
use lea::device::{DType, Device};
use lea::ops::forest_attention::{AttentionIndex, RowRanges};
use lea::ops::{ForestAttention, Matmul, NormScore, Op};
use lea::tensor::Tensor;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One op's launch, and what it must write.
struct Case {
    name: String,
    launch: Traced,
    /// Output of the f64 reference.
    want: Vec<f64>,
}

fn random(shape: &[usize], seed: u64) -> Vec<f64> {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    (0..shape.iter().product()).map(|_| f64::from(rng.random_range(-1f32..1.0))).collect()
}

/// The last launch of a forward call, which writes the op's output to its first storage.
fn case<O: Op>(name: &str, device: &Device, make: impl Fn() -> O, shapes: &[&[usize]]) -> Case {
    let inputs = |device: &Device, dtype| -> Vec<Tensor> {
        let of =
            |(i, shape): (usize, &&[usize])| Tensor::from_f64(device, dtype, &random(shape, i as u64), shape);
        shapes.iter().enumerate().map(|one| of(one).unwrap()).collect()
    };
    let forward = |inputs: &[Tensor]| make().forward(&inputs.iter().collect::<Vec<_>>(), false);
    let want = forward(&inputs(&Device::Cpu, DType::F64)).unwrap().to_f64_vec().unwrap();
    let Device::WebGpu(gpu) = device else { unreachable!("an adapter was opened") };
    let on_gpu = inputs(device, DType::F32);
    let (_, launches) = gpu.traced(|| forward(&on_gpu)).unwrap();
    let launch = launches.into_iter().next_back().unwrap();
    Case { name: format!("{name}, {}", launch.entry), launch, want }
}

/// Two trees under a root of three rows: a trunk, stems that branch off it amid and at its end, and leaves of one row and
/// of several.
fn forest() -> AttentionIndex {
    let (root, none) = ((0, 3), (0, 0));
    let mut rows: Vec<RowRanges> = (1..=3).map(|end| RowRanges([(0, end), none, none, none])).collect();
    for length in [20u32, 5] {
        let trunk = rows.len() as u32;
        rows.extend((1..=length).map(|end| RowRanges([root, (trunk, trunk + end), none, none])));
        for seen in [length / 2, length] {
            let (seen, stem) = ((trunk, trunk + seen), rows.len() as u32);
            rows.extend((1..=2).map(|end| RowRanges([root, seen, (stem, stem + end), none])));
            for length in [1u32, 4, 1] {
                let leaf = rows.len() as u32;
                let own = |end| RowRanges([root, seen, (stem, stem + 2), (leaf, leaf + end)]);
                rows.extend((1..=length).map(own));
            }
        }
    }
    let keys = rows.len();
    AttentionIndex::new(rows, keys).unwrap()
}

fn cases(device: &Device) -> Vec<Case> {
    let matmul = || Matmul { transpose_a: false, transpose_b: true };
    let index = Arc::new(forest());
    let rows = index.rows();
    let attention = || ForestAttention::new(index.clone(), 4, 2, 16, 0.25);
    vec![
        case("matmul", device, matmul, &[&[37, 19], &[45, 19]]),
        // More than a tile of hardware's kernel for large products.
        case("matmul of tiles", device, matmul, &[&[137, 19], &[145, 19]]),
        case("forest attention", device, attention, &[&[rows, 64], &[rows, 32], &[rows, 32]]),
        case("reward scoring", device, || NormScore::new(1e-5), &[&[33, 48], &[48], &[48]]),
    ]
}

fn respond(mut stream: &TcpStream, kind: &str, body: &str) {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
}

/// Answers one request; the body of a POST is the page's message.
fn serve(stream: TcpStream, launches: &str) -> Option<Value> {
    stream.set_nonblocking(false).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let mut reader = BufReader::new(&stream);
    let (mut first, mut length) = (String::new(), 0usize);
    reader.read_line(&mut first).ok()?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? <= 2 {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    if first.starts_with("POST /results") {
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        respond(&stream, "text/plain", "");
        return serde_json::from_slice(&body).ok();
    }
    match first.split(' ').nth(1) {
        Some("/launches.json") => respond(&stream, "application/json", launches),
        _ => respond(&stream, "text/html", include_str!("page.html")),
    }
    None
}

/// Chromium, ended when the test ends.
struct Browser(Child);

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn open_browser(url: &str, profile: &std::path::Path) -> Option<Browser> {
    let flags = [
        "--headless",
        "--no-sandbox",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--enable-unsafe-webgpu",
        "--use-webgpu-adapter=swiftshader",
    ];
    ["chromium", "chromium-browser", "google-chrome"].iter().find_map(|name| {
        let mut command = Command::new(name);
        command.args(flags).arg(format!("--user-data-dir={}", profile.display())).arg(url);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok().map(Browser)
    })
}

#[test]
fn a_browser_computes_what_the_cpu_computes() {
    let Some(found) = adapter::list().into_iter().next() else {
        return skip::skipped("there is no WebGPU adapter to trace launches on");
    };
    // The kernels of software adapters, and those of hardware.
    let cases: Vec<Case> = [false, true]
        .into_iter()
        .flat_map(|hardware| {
            let pretence = Pretence { hardware, ..Pretence::default() };
            cases(&Device::WebGpu(adapter::open_as(found.index, Tier::Plain, pretence).unwrap()))
        })
        .collect();
    let entry = |name: &str| cases.iter().any(|case| case.launch.entry == name);
    assert!(entry("direct") && entry("tiled") && entry("large"), "every kernel of products is replayed");
    let launches = serde_json::to_string(&cases.iter().map(|c| &c.launch).collect::<Vec<_>>()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let profile = tempfile::tempdir().unwrap();
    // Browsers give WebGPU to pages of this name without a certificate.
    let url = format!("http://localhost:{}/", listener.local_addr().unwrap().port());
    let Some(_browser) = open_browser(&url, profile.path()) else {
        return skip::skipped("there is no Chromium");
    };
    let deadline = Instant::now() + Duration::from_secs(120);
    let message = loop {
        if let Ok((stream, _)) = listener.accept() {
            if let Some(message) = serve(stream, &launches) {
                break message;
            }
        } else {
            assert!(Instant::now() < deadline, "the page did not post its results within two minutes");
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    if let Some(why) = message["unavailable"].as_str() {
        return skip::skipped(why);
    }
    assert!(message["error"].is_null(), "{}", message["error"]);
    let results = message["results"].as_array().unwrap();
    assert_eq!(results.len(), cases.len(), "every launch has its results");
    for (case, result) in cases.iter().zip(results) {
        let words = result[0].as_array().unwrap().iter().map(|w| w.as_u64().unwrap() as u32);
        let found: Vec<f64> = words.map(|w| f64::from(f32::from_bits(w))).take(case.want.len()).collect();
        assert_eq!(found.len(), case.want.len(), "{}", case.name);
        for (i, (found, want)) in found.iter().zip(&case.want).enumerate() {
            assert!((found - want).abs() <= 2e-5, "{} at {i}: {found}, not {want}", case.name);
        }
    }
}
