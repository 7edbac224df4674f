//! DSSE envelopes and in-toto statements.
#![no_main]

use libfuzzer_sys::fuzz_target;
use waag_schema::statement::{Envelope, Statement};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(envelope) = Envelope::parse(bytes) {
        assert_eq!(envelope.bytes(), bytes);
        let _ = envelope.verify(&[], 1);
        let _ = Statement::parse(envelope.payload());
    }
    if let Ok(statement) = Statement::parse(bytes) {
        assert_eq!(Statement::parse(&statement.to_bytes()).as_ref(), Ok(&statement));
    }
});
