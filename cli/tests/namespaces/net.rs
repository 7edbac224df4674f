//! A network of this test's own: places in network namespaces, joined by a bridge in one more, slow and lossy. Nothing of
//! it can be seen from outside, and it ends with its handle.
//!
//! ```text
//! stuttgart eth0 10.77.0.1 ─┐
//! bologna   eth0 10.77.0.2 ─┼─ bridge (namespace hub)
//! oslo      eth0 10.77.0.3 ─┘
//! ```

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::relay::{Relay, Weather};

/// Every site's port: each has its addresses to itself.
const PORT: u16 = 7443;
const WEATHER: Weather = Weather {
    // In each direction: an answer takes 50 ms at least.
    delay: Duration::from_millis(25),
    one_lost_in: 100,
};
/// What the names of all such namespaces begin with.
const PREFIX: &str = "waag-test-";

/// The network, until dropped.
pub(super) struct Net {
    places: Vec<&'static str>,
    /// Where the kernel cannot make it slow.
    relays: Vec<Relay>,
}

/// Runs a command, and returns what it said if it failed.
fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let shown = || format!("{program} {}", arguments.join(" "));
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| format!("{}: {error}", shown()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{}: {}", shown(), said.trim()))
}

fn ip(line: &str) -> Result<(), String> {
    run("ip", &line.split(' ').collect::<Vec<_>>())
}

/// Moves this thread, and all processes that it starts, into a namespace.
pub(super) fn enter(namespace: &OwnedFd) -> io::Result<()> {
    Ok(move_into_link_name_space(
        namespace.as_fd(),
        Some(LinkNameSpaceType::Network),
    )?)
}

fn name(place: &str) -> String {
    format!("{PREFIX}{}-{place}", std::process::id())
}

fn open(place: &str) -> io::Result<OwnedFd> {
    Ok(File::open(Path::new("/run/netns").join(name(place)))?.into())
}

/// Removes what a test that was killed has left.
fn sweep() {
    let names = fs::read_dir("/run/netns").into_iter().flatten();
    for name in names.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = ip(&format!("netns del {name}"));
        }
    }
}

impl Net {
    /// Makes a network of these places, or says why there can be none here.
    pub(super) fn new(places: &[&'static str]) -> Result<Self, String> {
        sweep();
        let mut net = Self {
            places: places.to_vec(),
            relays: Vec::new(),
        };
        let hub = name("hub");
        ip(&format!("netns add {hub}"))?;
        ip(&format!("-n {hub} link add bridge type bridge"))?;
        ip(&format!("-n {hub} link set bridge up"))?;
        for (number, place) in places.iter().enumerate() {
            let (own, address) = (name(place), net.address(number));
            ip(&format!("netns add {own}"))?;
            ip(&format!(
                "-n {hub} link add {place} type veth peer name eth0 netns {own}"
            ))?;
            ip(&format!("-n {hub} link set {place} master bridge up"))?;
            ip(&format!("-n {own} addr add {address}/24 dev eth0"))?;
            ip(&format!("-n {own} link set lo up"))?;
            ip(&format!("-n {own} link set eth0 up"))?;
            let own = open(place).map_err(|error| format!("/run/netns/{own}: {error}"))?;
            std::thread::scope(|scope| scope.spawn(|| enter(&own)).join())
                .expect("entering does not panic")
                .map_err(|error| format!("no thread can enter a namespace: {error}"))?;
        }
        if let Err(why) = net.slow_by_kernel() {
            for (number, place) in places.iter().enumerate() {
                let at = SocketAddr::new(net.address(number), PORT);
                let namespace = open(place).map_err(|error| error.to_string())?;
                let to = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PORT);
                net.relays.push(Relay::start(namespace, at, to, WEATHER));
            }
            say(&format!("slow and lossy by a relay, not by the kernel: {why}"));
        }
        Ok(net)
    }

    fn slow_by_kernel(&self) -> Result<(), String> {
        let (delay, loss) = (WEATHER.delay.as_millis(), 100 / WEATHER.one_lost_in);
        for place in &self.places {
            let netem = format!(
                "-n {} qdisc add dev eth0 root netem delay {delay}ms loss {loss}%",
                name(place)
            );
            run("tc", &netem.split(' ').collect::<Vec<_>>())?;
        }
        Ok(())
    }

    /// Where the others find a place.
    pub(super) fn address(&self, place: usize) -> IpAddr {
        Ipv4Addr::new(10, 77, 0, u8::try_from(place + 1).expect("few places")).into()
    }

    pub(super) fn url(&self, place: usize) -> String {
        format!("https://{}:{PORT}", self.address(place))
    }

    /// Where a site has to listen, so that the others find it at its address.
    pub(super) fn listen(&self, place: usize) -> String {
        let own = if self.relays.is_empty() {
            self.address(place)
        } else {
            Ipv4Addr::LOCALHOST.into()
        };
        SocketAddr::new(own, PORT).to_string()
    }

    /// Does this at a place: what it connects to and what it starts is there.
    pub(super) fn at<T: Send>(&self, place: usize, work: impl FnOnce() -> T + Send) -> T {
        let namespace = open(self.places[place]).unwrap();
        let there = move || {
            enter(&namespace).unwrap();
            work()
        };
        let done = std::thread::scope(|scope| scope.spawn(there).join());
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Cuts a place off from all others.
    pub(super) fn cut(&self, place: usize) {
        ip(&format!(
            "-n {} link set {} down",
            name("hub"),
            self.places[place]
        ))
        .unwrap();
    }

    /// Joins it again.
    pub(super) fn join(&self, place: usize) {
        ip(&format!("-n {} link set {} up", name("hub"), self.places[place])).unwrap();
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        // Connections end before the place in which they are.
        self.relays.clear();
        for place in self.places.iter().chain([&"hub"]) {
            // It may not have been made.
            let _ = ip(&format!("netns del {}", name(place)));
        }
    }
}

#[allow(clippy::print_stderr, reason = "a test that does less than it could says so")]
pub(super) fn say(what: &str) {
    eprintln!("network namespaces: {what}");
}
