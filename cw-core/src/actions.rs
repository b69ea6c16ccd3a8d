//! What a machine wants done, in order.

use std::collections::VecDeque;

use bytes::BytesMut;

use crate::Payload;

/// Actions in order. What is told of consecutive tasks to the same peer joins into one message while it is the last.
#[derive(Debug)]
pub(crate) struct Actions<A> {
    queue: VecDeque<A>,
    /// The body of the last action, if that is a burst that may grow.
    open: BytesMut,
}

/// An action that may tell somebody something.
pub(crate) trait Tells {
    /// Says the next action's message with this one's, if both go to the same peer and can be one. `open` is the body
    /// so far, or empty.
    fn join(&mut self, next: &Self, open: &mut BytesMut) -> bool;

    /// The body of its message.
    fn body(&mut self) -> Option<&mut Payload>;
}

impl<A> Default for Actions<A> {
    fn default() -> Self {
        Self { queue: VecDeque::new(), open: BytesMut::new() }
    }
}

impl<A: Tells> Actions<A> {
    pub(crate) fn push_back(&mut self, action: A) {
        if let Some(last) = self.queue.back_mut()
            && last.join(&action, &mut self.open)
        {
            return;
        }
        self.close();
        self.queue.push_back(action);
    }

    pub(crate) fn pop_front(&mut self) -> Option<A> {
        if self.queue.len() == 1 {
            self.close();
        }
        self.queue.pop_front()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn retain(&mut self, keep: impl FnMut(&A) -> bool) {
        self.close();
        self.queue.retain(keep);
    }

    pub(crate) fn take(&mut self) -> VecDeque<A> {
        self.close();
        std::mem::take(&mut self.queue)
    }

    /// The last action grows no more.
    fn close(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let body = self.queue.back_mut().and_then(A::body).expect("what is open is the last action's");
        *body = self.open.split().freeze().into();
    }
}
