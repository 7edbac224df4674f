//! Labels and verdicts.
