//! How a file becomes chunks and comes back.
