//! What is published under a name.
