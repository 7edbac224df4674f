//! A socket on which no wait is endless: for the first words of the other side, and for it to take what is written.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// HTTP/2 begins with so many bytes that always are the same; until they came, or other ones, it is not known what
/// is spoken, and no timer of a protocol runs.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) struct Paced<S> {
    inner: S,
    /// Until when it must be known what is spoken.
    opening: Option<Pin<Box<Sleep>>>,
    /// How much of the preface has come.
    seen: usize,
    stalled: Duration,
    /// Until when something must have been taken.
    writing: Option<Pin<Box<Sleep>>>,
}

impl<S> Paced<S> {
    pub(super) fn new(inner: S, opening: Duration, stalled: Duration) -> Self {
        Self {
            inner,
            opening: Some(Box::pin(sleep_until(Instant::now() + opening))),
            seen: 0,
            stalled,
            writing: None,
        }
    }

    fn heard(&mut self, bytes: &[u8]) {
        let expected = &PREFACE[self.seen..];
        let same = bytes.iter().zip(expected).take_while(|(a, b)| a == b).count();
        self.seen += same;
        if same < bytes.len() || self.seen == PREFACE.len() {
            self.opening = None;
        }
    }

    /// Fails a write that has waited too long.
    fn bounded<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.writing = None;
            return written;
        }
        let stalled = self.stalled;
        let timer = self
            .writing
            .get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + stalled)));
        if timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(timed_out("nothing was taken for too long")));
        }
        Poll::Pending
    }
}

fn timed_out(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, why)
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let late = self
            .opening
            .as_mut()
            .is_some_and(|timer| timer.as_mut().poll(cx).is_ready());
        if late {
            return Poll::Ready(Err(timed_out("no request came")));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        if self.opening.is_some() && read.is_ready() {
            self.heard(&buf.filled()[before..]);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.bounded(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.bounded(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        self.bounded(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.bounded(cx, ended)
    }
}
