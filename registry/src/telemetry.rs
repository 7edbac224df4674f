//! What a site counts. Each site has a registry of its own, since several may live in one process.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Labels of `waag_http_requests`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// The route's pattern, never the path: paths hold names that not everybody may know.
    pub route: String,
    /// The request's method.
    pub method: String,
    /// The answer's status.
    pub status: u16,
}

/// Labels of `waag_turned_away`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TurnedAway {
    /// Which limit was reached: `connections`, `connections_of_one`, `site`, `strangers`, `caller`.
    pub limit: &'static str,
}

/// Labels of what is counted for each site that is followed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfPeer {
    /// The site.
    pub peer: String,
}

/// Labels of what is counted for each challenge.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Challenged {
    /// The site that was asked.
    pub peer: String,
    /// `ok` or `failed`.
    pub outcome: &'static str,
}

/// The counters of one site. Cheap to clone; clones count together.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// Requests answered.
    pub requests: Family<RequestLabels, Counter>,
    /// Connections open.
    pub connections: Gauge,
    /// Who was told to come back, by the limit that was reached.
    pub turned_away: Family<TurnedAway, Counter>,
    /// Raw bytes of chunks taken in.
    pub chunk_bytes_received: Counter,
    /// Chunks taken in.
    pub chunks_received: Counter,
    /// Raw bytes of content sent out.
    pub content_bytes_sent: Counter,
    /// Entries recorded.
    pub entries: Counter,
    /// Batches committed.
    pub commits: Counter,
    /// Entries in the published tree.
    pub ledger_size: Gauge,
    /// Releases weighed.
    pub weighed: Counter,
    /// Scorecards of suites made.
    pub asked: Counter,
    /// Raw bytes read to weigh them.
    pub weighed_bytes: Counter,
    /// Tries to weigh a release that failed.
    pub weigh_failures: Counter,
    /// Entries of other sites' ledgers that were followed.
    pub followed: Family<OfPeer, Counter>,
    /// Looks at other sites' ledgers that failed.
    pub follow_failures: Family<OfPeer, Counter>,
    /// Seconds since another site was heard from.
    pub silence: Family<OfPeer, Gauge>,
    /// Raw bytes of chunks that were fetched from other sites.
    pub mirrored_bytes: Counter,
    /// Answers of sites that were asked for a release and sent what was not signed.
    pub mirror_lies: Counter,
    /// Releases of other sites that could not be fetched or deleted, each time it was tried.
    pub mirror_failures: Counter,
    /// Sites that were asked for proof of what they hold.
    pub challenges: Family<Challenged, Counter>,
}

impl Metrics {
    /// Counts somebody who was told to come back because of this limit.
    pub fn turned_away(&self, limit: &'static str) {
        self.turned_away.get_or_create(&TurnedAway { limit }).inc();
    }

    /// Writes all of them in the OpenMetrics text format.
    #[must_use]
    pub fn render(&self) -> String {
        let mut registry = Registry::with_prefix("waag");
        registry.register("http_requests", "Requests answered", self.requests.clone());
        registry.register("connections", "Connections open", self.connections.clone());
        registry.register(
            "turned_away",
            "Connections and transfers that were told to come back",
            self.turned_away.clone(),
        );
        registry.register(
            "chunk_received_bytes",
            "Raw bytes of chunks taken in",
            self.chunk_bytes_received.clone(),
        );
        registry.register("chunks_received", "Chunks taken in", self.chunks_received.clone());
        registry.register(
            "content_sent_bytes",
            "Raw bytes of content sent out",
            self.content_bytes_sent.clone(),
        );
        registry.register(
            "ledger_entries_recorded",
            "Entries recorded since the start",
            self.entries.clone(),
        );
        registry.register(
            "ledger_commits",
            "Batches committed since the start",
            self.commits.clone(),
        );
        registry.register(
            "ledger_size",
            "Entries in the published tree",
            self.ledger_size.clone(),
        );
        registry.register(
            "weighed_releases",
            "Releases weighed since the start",
            self.weighed.clone(),
        );
        registry.register(
            "weighed_suites",
            "Scorecards of suites made since the start",
            self.asked.clone(),
        );
        registry.register(
            "weighed_bytes",
            "Raw bytes read to weigh releases",
            self.weighed_bytes.clone(),
        );
        registry.register(
            "weigh_failures",
            "Tries to weigh a release that failed",
            self.weigh_failures.clone(),
        );
        registry.register(
            "followed_entries",
            "Entries of other sites' ledgers that were followed since the start",
            self.followed.clone(),
        );
        registry.register(
            "follow_failures",
            "Looks at other sites' ledgers that failed",
            self.follow_failures.clone(),
        );
        registry.register(
            "peer_silence_seconds",
            "How long ago another site was heard from",
            self.silence.clone(),
        );
        registry.register(
            "mirrored_bytes",
            "Raw bytes of chunks that were fetched from other sites",
            self.mirrored_bytes.clone(),
        );
        registry.register(
            "mirror_lies",
            "Answers of sites that were asked for a release and sent what was not signed",
            self.mirror_lies.clone(),
        );
        registry.register(
            "mirror_failures",
            "Tries to fetch or delete a copy of a release that failed",
            self.mirror_failures.clone(),
        );
        registry.register(
            "custody_challenges",
            "Challenges of other sites that say that they hold a release",
            self.challenges.clone(),
        );
        let mut text = String::new();
        encode(&mut text, &registry).expect("writing to a string does not fail");
        text
    }
}
