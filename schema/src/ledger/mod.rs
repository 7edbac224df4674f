//! A site's ledger: its mathematics and its bytes.
