//! A site that leads a double life: a clone of it signs another history, and others are shown now this one, now that.

use std::path::Path;
use std::sync::Arc;

use waag_registry::federation::LocalPeer;
use waag_registry::ledger::Standing;
use waag_registry::store::Store;

use super::super::publish;
use super::Simulation;
use crate::world::{File, noise};

/// Copies a directory and all in it.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let there = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &there);
        } else {
            std::fs::copy(entry.path(), there).unwrap();
        }
    }
}

/// One site signs two histories. Whoever is shown both finds it out, whichever came first and whichever is longer, and
/// keeps what convicts it.
pub(super) async fn lead_a_double_life(simulation: &mut Simulation) {
    let count = simulation.count();
    let forking = simulation.dice.below(count);
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("twin");
    copy(simulation.sites.world(forking).data(), &data);
    let store: Arc<dyn Store> = Arc::new(simulation.sites.members[forking].store.fork());
    let twin = simulation.sites.world(forking).clone_at(&data, store).await;
    for (face, world) in [(0, simulation.sites.world(forking)), (1, &twin)] {
        for number in 0..=simulation.dice.below(3) {
            let files = vec![File::new("f.bin", noise(9000 + face, 100 + number))];
            let artifact = format!("{}-lab/fork", super::SITES[forking].0);
            let tag = format!("f{face}-{number}");
            let label = (number == 0).then(|| super::at(&["*"]));
            let publisher = &simulation.publishers[forking];
            publish(world, publisher, &artifact, &tag, files, label).await;
        }
    }
    let id = simulation.id(forking);
    for asking in (0..count).filter(|asking| *asking != forking) {
        let first = simulation.dice.below(2);
        let here = simulation.sites.members[asking].terms.here();
        let faces = [
            simulation.sites.peer(forking, asking),
            LocalPeer::new(&twin.site, here),
        ];
        let federation = simulation.sites.world(asking).site.federation();
        let link = &simulation.links[&(asking, forking)];
        link.lead_to(faces[first].clone());
        federation.look(&id).await.unwrap();
        link.lead_to(faces[1 - first].clone());
        federation.look(&id).await.unwrap_err();
        let followed = simulation.sites.world(asking).site.catalogue().ledgers.of(&id);
        let standing = followed.unwrap().standing.clone();
        assert!(matches!(standing, Standing::Stopped(_)), "{standing:?}");
        let views = federation.peers().await.unwrap();
        let view = views.into_iter().find(|view| view.site == id).unwrap();
        assert_eq!(view.evidence.unwrap().checkpoints.len(), 2);
    }
    twin.stop().await;
}
