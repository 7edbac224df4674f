//! Charters: read or refused; what is read is written back as it was, and never follows itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use waag_schema::federation::{Charter, Proposal, Terms};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(proposal) = Proposal::parse(bytes) {
        assert_eq!(proposal.bytes(), bytes);
        let _ = proposal.signatures();
    }
    if let Ok(charter) = Charter::parse(bytes) {
        assert!(charter.next(bytes).is_err());
    }
    if let Ok(terms) = waag_schema::base::json::from_slice::<Terms>(bytes, 1 << 20) {
        let sound = terms.check().is_ok();
        let again: Result<Terms, _> = waag_schema::base::json::from_slice(&terms.to_bytes(), 1 << 21);
        assert_eq!(again.as_ref(), Ok(&terms));
        if sound && terms.to_bytes().len() < 1 << 19 {
            let unsigned = Proposal::sign(&terms, &[]);
            assert!(unsigned.is_err(), "an envelope without a signature is none");
        }
    }
});
