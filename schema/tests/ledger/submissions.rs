//! What a witness is sent: one spelling, bounded, as C2SP tlog-witness has it.

use proptest::prelude::*;
use waag_schema::ledger::submission::PROOF_HASHES_MAX;
use waag_schema::ledger::{Hash, LedgerError, SignedCheckpoint, Submission};

use super::world::{log_key, origin};

fn signed() -> SignedCheckpoint {
    let checkpoint = waag_schema::ledger::Checkpoint {
        origin: origin(),
        size: 7,
        root: waag_schema::ledger::Root::from_bytes([7; 32]),
    };
    SignedCheckpoint::sign(checkpoint, &log_key())
}

#[test]
fn a_proof_of_more_than_63_hashes_is_refused() {
    let mut submission = Submission {
        old: 3,
        proof: vec![Hash::from_bytes([1; 32]); PROOF_HASHES_MAX],
        note: signed().note().clone(),
    };
    Submission::parse(submission.to_string().as_bytes()).unwrap();
    submission.proof.push(Hash::from_bytes([1; 32]));
    let refused = Submission::parse(submission.to_string().as_bytes());
    assert!(matches!(refused, Err(LedgerError::TooLarge { .. })));
}

#[test]
fn the_origin_is_the_first_line_of_the_checkpoint_whoever_it_is_of() {
    let submission = Submission {
        old: 0,
        proof: Vec::new(),
        note: signed().note().clone(),
    };
    assert_eq!(submission.origin(), origin().to_string());
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(
        old in 0_u64..1 << 53,
        proof in proptest::collection::vec(any::<[u8; 32]>(), 0..=PROOF_HASHES_MAX),
    ) {
        let proof = proof.into_iter().map(Hash::from_bytes).collect();
        let submission = Submission { old, proof, note: signed().note().clone() };
        let read = Submission::parse(submission.to_string().as_bytes()).unwrap();
        prop_assert_eq!(read, submission);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(read) = Submission::parse(&bytes) {
            let text = read.to_string();
            prop_assert_eq!(text.as_bytes(), bytes.as_slice());
        }
    }
}
