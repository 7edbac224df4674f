//! A site that leads a double life: a clone of it signs another history, and others are shown now this one, now that.

use std::path::Path;
use std::sync::Arc;

use waag_registry::federation::LocalPeer;
use waag_registry::ledger::Standing;
use waag_registry::store::Store;

use super::super::{Sites, publish};
use super::Simulation;
use crate::world::{File, World, noise};

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

/// A clone of a site, as it stood when it was made.
pub(crate) struct Twin {
    pub(crate) world: World,
    _dir: tempfile::TempDir,
}

impl Twin {
    pub(crate) async fn of(sites: &Sites, site: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("twin");
        copy(sites.world(site).data(), &data);
        let store: Arc<dyn Store> = Arc::new(sites.members[site].store.fork());
        let world = sites.world(site).clone_at(&data, store).await;
        Self { world, _dir: dir }
    }
}

/// One site signs two histories, and shows each other one only one of them, but both to somebody. Whoever hears from the
/// others finds it out, whichever it was shown and whichever is longer; whoever is shown both does anyway.
pub(super) async fn lead_a_double_life(simulation: &mut Simulation) {
    let count = simulation.count();
    let forking = simulation.dice.below(count);
    let twin = Twin::of(&simulation.sites, forking).await;
    for (face, world) in [(0, simulation.sites.world(forking)), (1, &twin.world)] {
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
    let honest: Vec<usize> = (0..count).filter(|site| *site != forking).collect();
    let mut shown = Vec::new();
    for (at, asking) in honest.iter().copied().enumerate() {
        // Each face is shown to one at least.
        let face = if at < 2 { at } else { simulation.dice.below(2) };
        let here = simulation.sites.members[asking].terms.here();
        let mut faces = [
            simulation.sites.peer(forking, asking),
            LocalPeer::new(&twin.world.site, here),
        ];
        faces.rotate_left(face);
        let link = &simulation.links[&(asking, forking)];
        link.lead_to(faces[0].clone());
        let federation = simulation.sites.world(asking).site.federation();
        federation.look(&id).await.unwrap();
        shown.push(faces);
    }
    if simulation.dice.below(2) == 0 {
        // They hear each other: once to find it out, and once to be told of it by who has.
        for _ in 0..2 {
            for asking in &honest {
                for asked in honest.iter().filter(|asked| *asked != asking) {
                    let federation = simulation.sites.world(*asking).site.federation();
                    federation.hear(&simulation.id(*asked)).await.unwrap();
                }
            }
        }
    } else {
        for (asking, faces) in honest.iter().zip(&shown) {
            simulation.links[&(*asking, forking)].lead_to(faces[1].clone());
            let federation = simulation.sites.world(*asking).site.federation();
            federation.look(&id).await.unwrap_err();
        }
    }
    for asking in honest {
        let followed = simulation.sites.world(asking).site.catalogue().ledgers.of(&id);
        let standing = followed.unwrap().standing.clone();
        assert!(matches!(standing, Standing::Stopped(_)), "{standing:?}");
        let federation = simulation.sites.world(asking).site.federation();
        let views = federation.peers().await.unwrap();
        let of = |site: &waag_schema::SiteId| views.iter().find(|view| view.site == *site).cloned().unwrap();
        assert_eq!(of(&id).evidence.unwrap().checkpoints.len(), 2);
        // Nobody else is suspected.
        for other in (0..count).filter(|other| *other != forking && *other != asking) {
            assert_eq!(of(&simulation.id(other)).stopped, None);
        }
    }
    twin.world.stop().await;
}
