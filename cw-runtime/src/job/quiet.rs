//! Calls into code of users' types with values that no user made: a panic there is no news.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

/// Whether a panic can be caught: not where it ends the process at once.
pub(super) const CAN_CATCH: bool = cfg!(panic = "unwind");

thread_local! {
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

/// What `body` gives; nothing, without a word, if it panics. What a panic leaves half done is the caller's care.
pub(super) fn quietly<R>(body: impl FnOnce() -> R) -> Option<R> {
    hush_panics();
    let before = IS_QUIET.replace(CAN_CATCH);
    let result = panic::catch_unwind(AssertUnwindSafe(body));
    IS_QUIET.set(before);
    result.ok()
}

/// Puts a hook before the one that is there, which stays silent on a thread that asks for it.
fn hush_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // A thread that is panicking may not change the hook; its panic is told as ever.
        if !std::thread::panicking() {
            let told = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                if !IS_QUIET.get() {
                    told(info);
                }
            }));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_nothing_and_the_thread_is_not_quiet_after_it() {
        assert_eq!(quietly(|| 7), Some(7));
        assert_eq!(quietly(|| assert!(IS_QUIET.get(), "not quiet")), Some(()));
        assert_eq!(quietly(|| panic!("unheard")), None::<()>);
        assert!(!IS_QUIET.get());
    }
}
