//! Bundles: two sites that never talk, and a file that is carried between them.

use std::path::{Path, PathBuf};

use waag_registry::access::Caller;
use waag_registry::clock::Clock as _;
use waag_registry::federation::{CarryError, ExportRequest, Exported, Imported, export, import};
use waag_schema::base::name::Version;
use waag_schema::federation::bundle::BundleError;
use waag_schema::wire::federation::State;
use waag_schema::{ArtifactName, Reference};

use super::{Sites, at, publish, publisher, relabel, withdraw};
use crate::world::{File, noise};

/// Home, a mirror in the EU, and one outside of it.
async fn three() -> Sites {
    let sites = Sites::open(
        &[
            ("home", "DE", vec![]),
            ("mirror", "IT", vec![]),
            ("oslo", "NO", vec![]),
        ],
        9,
    )
    .await;
    for site in 0..3 {
        sites.meet(site).await;
    }
    sites
}

fn tiny() -> ArtifactName {
    "home-acme/tiny".parse().unwrap()
}

fn files(seed: u64) -> Vec<File> {
    vec![
        File::new("a.bin", noise(seed, 1_500_000)),
        File::new("b.txt", noise(seed + 100, 500)),
    ]
}

struct Desk {
    sites: Sites,
    dir: tempfile::TempDir,
}

impl Desk {
    async fn new() -> Self {
        Self {
            sites: three().await,
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn export(
        &self,
        to: usize,
        out: &str,
        chosen: Option<&str>,
        since: Option<&str>,
    ) -> Result<Exported, CarryError> {
        let request = ExportRequest {
            destination: self.sites.members[to].terms.clone(),
            chosen: chosen.map(|text| vec![text.parse::<Reference>().unwrap()]),
            since: since.map(|name| self.path(name)),
            out: self.path(out),
        };
        export(&self.sites.world(0).site, &request).await
    }

    async fn import(&self, to: usize, name: &str) -> Result<Imported, CarryError> {
        import(&self.sites.world(to).site, &self.path(name)).await
    }

    fn dump(&self, site: usize) -> Vec<String> {
        self.sites.members[site].store.dump().into_keys().collect()
    }
}

#[tokio::test]
async fn what_is_carried_is_served_where_it_arrives_and_proven_by_its_homes_key() {
    let desk = Desk::new().await;
    let home = desk.sites.world(0);
    let acme = publisher(home, "home-acme").await;
    let draft = publish(home, &acme, "home-acme/tiny", "v1", files(1), Some(at(&["EU"]))).await;
    let exported = desk.export(1, "full", None, None).await.unwrap();
    assert_eq!((exported.releases.len(), exported.left_out.len()), (1, 0));
    let imported = desk.import(1, "full").await.unwrap();
    assert_eq!((imported.mirrored.fetched, imported.mirrored.failed), (1, 0));
    assert!(imported.is_held() && !imported.is_nothing_new());

    let mirror = desk.sites.world(1);
    let from_italy = Caller::peer(desk.sites.members[1].terms.here());
    let version: Version = "v1".parse().unwrap();
    let resolved = |site: usize| {
        let (catalogue, caller, version) = (desk.sites.world(site).site.catalogue(), &from_italy, &version);
        async move { catalogue.resolve(caller, &tiny(), version).await.unwrap() }
    };
    // The proof is home's, under home's key.
    let (there, here) = (resolved(1).await, resolved(0).await);
    assert_eq!(
        (there.manifest, there.proof.entries),
        (here.manifest, here.proof.entries)
    );
    assert_eq!(there.proof.checkpoint, here.proof.checkpoint);
    for file in &draft.files {
        assert!(
            mirror
                .site
                .catalogue()
                .file(&from_italy, &tiny(), &file.sha256())
                .await
                .is_ok()
        );
    }
    assert_eq!(desk.sites.chunks(1), desk.sites.chunks(0));
    // Once more changes nothing, and says so.
    let size = mirror.site.ledger().checkpoint().checkpoint().size;
    let before = desk.dump(1);
    let again = desk.import(1, "full").await.unwrap();
    assert!(again.is_nothing_new() && again.is_held());
    assert_eq!(again.releases[0].state, State::Held);
    assert_eq!(mirror.site.ledger().checkpoint().checkpoint().size, size);
    assert_eq!(desk.dump(1), before);
}

#[tokio::test]
async fn a_delta_carries_what_is_new_and_is_of_no_use_without_what_it_goes_on_from() {
    let desk = Desk::new().await;
    let home = desk.sites.world(0);
    let acme = publisher(home, "home-acme").await;
    let first = publish(home, &acme, "home-acme/tiny", "v1", files(1), Some(at(&["*"]))).await;
    let full = desk.export(1, "full", None, None).await.unwrap();
    // The ledger moves on: another release that shares a file, and the first is withdrawn.
    let shared = vec![
        File::new("a.bin", noise(1, 1_500_000)),
        File::new("c.bin", noise(5, 900)),
    ];
    publish(home, &acme, "home-acme/tiny", "v2", shared, None).await;
    withdraw(home, &acme, &first, true).await;
    let delta = desk.export(1, "delta", None, Some("full")).await.unwrap();
    assert!(delta.known > 0 && delta.bytes < full.bytes / 10, "{delta:?}");

    // Without the first, nothing of it can be shown.
    let alone = desk.import(2, "delta").await.unwrap();
    assert!(!alone.is_held());
    assert_eq!(alone.releases[0].state, State::Failed);
    let reason = alone.releases[0].reason.clone().unwrap();
    assert!(reason.contains("goes on where the bundle"), "{reason}");

    assert!(desk.import(1, "full").await.unwrap().is_held());
    let imported = desk.import(1, "delta").await.unwrap();
    assert!(imported.is_held(), "{imported:?}");
    assert_eq!((imported.mirrored.fetched, imported.mirrored.erased), (1, 1));
    // A bundle that comes late takes nothing back.
    let late = desk.import(1, "full").await.unwrap();
    assert_eq!((late.entries, late.mirrored.fetched), (0, 0));
    assert_ne!(late.releases[0].state, State::Held);
}

#[tokio::test]
async fn the_label_decides_where_it_leaves_and_where_it_arrives() {
    let desk = Desk::new().await;
    let home = desk.sites.world(0);
    let acme = publisher(home, "home-acme").await;
    publish(home, &acme, "home-acme/tiny", "v1", files(1), Some(at(&["EU"]))).await;
    let denied = desk.export(2, "named", Some("home-acme/tiny:v1"), None).await;
    assert!(matches!(denied, Err(CarryError::Denied { .. })), "{denied:?}");
    assert!(!desk.path("named").exists() && !desk.path("named.part").exists());
    let all = desk.export(2, "all", None, None).await.unwrap();
    assert_eq!((all.releases.len(), all.left_out.len()), (0, 1));
    assert!(all.left_out[0].reason.starts_with("denied"));
    // The ledger alone tells nobody's bytes.
    assert!(desk.import(2, "all").await.unwrap().is_held());
    assert_eq!(desk.sites.chunks(2), Vec::<String>::new());

    // One that was made for another site decides nothing here.
    desk.export(1, "for-mirror", None, None).await.unwrap();
    let imported = desk.import(2, "for-mirror").await.unwrap();
    assert_eq!(imported.mirrored.refused, 1);
    assert_eq!(imported.releases[0].state, State::Refused);
    assert!(
        imported.releases[0]
            .reason
            .as_ref()
            .unwrap()
            .starts_with("denied")
    );
    assert_eq!(desk.sites.chunks(2), Vec::<String>::new());
    let holders = desk
        .sites
        .world(2)
        .site
        .federation()
        .holders(&tiny())
        .await
        .unwrap();
    assert!(holders.iter().any(|view| view.state == "refused"));
    // What is held goes when a label that says so is carried.
    assert!(desk.import(1, "for-mirror").await.unwrap().is_held());
    relabel(home, &acme, "home-acme/tiny", at(&["DE"])).await;
    desk.export(1, "tightened", None, None).await.unwrap();
    assert_eq!(desk.import(1, "tightened").await.unwrap().mirrored.erased, 1);
    assert_eq!(desk.sites.chunks(1), Vec::<String>::new());
}

/// Refuses the file, and has taken nothing of it.
async fn refused(desk: &Desk, bytes: &[u8]) -> BundleError {
    let before = desk.dump(1);
    std::fs::write(desk.path("bent"), bytes).unwrap();
    let refused = desk.import(1, "bent").await;
    assert_eq!(desk.dump(1), before);
    match refused {
        Err(CarryError::Bundle { error, .. }) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_file_that_is_damaged_anywhere_is_refused_by_name_and_nothing_is_taken() {
    let desk = Desk::new().await;
    let home = desk.sites.world(0);
    let acme = publisher(home, "home-acme").await;
    publish(home, &acme, "home-acme/tiny", "v1", files(1), Some(at(&["EU"]))).await;
    desk.export(1, "full", None, None).await.unwrap();
    let bytes = std::fs::read(desk.path("full")).unwrap();
    let records = records(&desk.path("full"));
    let mut kinds = std::collections::BTreeSet::new();
    for (kind, offset, length) in &records {
        let mut bent = bytes.clone();
        bent[offset + length / 2] ^= 1;
        let error = refused(&desk, &bent).await;
        assert!(matches!(error, BundleError::Altered { .. }), "{error}");
        kinds.insert(*kind);
    }
    // Tiles, packs, the manifest, recipes and chunks.
    assert!([1, 2, 3, 4, 6].iter().all(|kind| kinds.contains(kind)));
    // Two chunks that changed places.
    let same: Vec<_> = records.iter().filter(|(kind, ..)| *kind == 4).collect();
    let (a, b) = (same[0], same[1]);
    let mut turned = bytes.clone();
    let least = a.2.min(b.2);
    let (left, right) = (bytes[a.1..a.1 + least].to_vec(), bytes[b.1..b.1 + least].to_vec());
    turned[a.1..a.1 + least].copy_from_slice(&right);
    turned[b.1..b.1 + least].copy_from_slice(&left);
    let error = refused(&desk, &turned).await;
    assert!(matches!(error, BundleError::Altered { .. }), "{error}");
    // Its end, wherever it is cut, and its cover.
    for length in [
        0,
        5,
        60,
        1000,
        bytes.len() / 2,
        bytes.len() - 100,
        bytes.len() - 1,
    ] {
        refused(&desk, &bytes[..length]).await;
    }
    let mut longer = bytes.clone();
    longer.push(0);
    refused(&desk, &longer).await;
    let end = bytes.len() - 68;
    let objects_end = u64::from_be_bytes(bytes[end..end + 8].try_into().unwrap());
    for at in [usize::try_from(objects_end).unwrap() + 10, end - 10] {
        let mut bent = bytes.clone();
        bent[at] ^= 1;
        let error = refused(&desk, &bent).await;
        assert_eq!(error, BundleError::Contents);
    }
    // The whole one is taken all the same.
    assert!(desk.import(1, "full").await.unwrap().is_held());
}

/// Kind, offset and length of each object of a bundle.
fn records(path: &Path) -> Vec<(u8, usize, usize)> {
    use waag_schema::federation::bundle::{RECORD_BYTES, Record, TRAILER_BYTES, Trailer};
    let bytes = std::fs::read(path).unwrap();
    let (rest, trailer) = bytes.split_last_chunk::<TRAILER_BYTES>().unwrap();
    let trailer = Trailer::decode(trailer, bytes.len() as u64).unwrap();
    let contents = &rest[usize::try_from(trailer.contents_at()).unwrap()..];
    contents
        .chunks_exact(RECORD_BYTES)
        .map(|bytes| {
            let record = Record::decode(bytes.try_into().unwrap()).unwrap();
            let offset = usize::try_from(record.offset).unwrap();
            (bytes[0], offset, record.length as usize)
        })
        .collect()
}

#[tokio::test]
async fn a_copy_counts_as_heard_from_when_its_home_said_so_not_from_when_it_was_carried() {
    let desk = Desk::new().await;
    let home = desk.sites.world(0);
    let acme = publisher(home, "home-acme").await;
    publish(home, &acme, "home-acme/tiny", "v1", files(1), Some(at(&["EU"]))).await;
    desk.export(1, "full", None, None).await.unwrap();
    let said = desk.sites.clock.now();
    desk.sites.clock.advance(25 * 3600);
    desk.import(1, "full").await.unwrap();
    let status = desk.sites.world(1).site.federation().status().await.unwrap();
    let heard = status.peers.iter().find_map(|peer| peer.heard).unwrap();
    assert!(heard <= said);
    let from_italy = Caller::peer(desk.sites.members[1].terms.here());
    let version: Version = "v1".parse().unwrap();
    let catalogue = desk.sites.world(1).site.catalogue();
    assert!(catalogue.resolve(&from_italy, &tiny(), &version).await.is_err());
}
