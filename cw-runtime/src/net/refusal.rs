//! Why a connection did not come about or ended, in words of ours, and whether trying again can help.
//!
//! Text a peer sends during the handshake is never shown, as it may come from a stranger; its codes are.

use std::fmt;

use quinn::{ConnectionError, TransportErrorCode};

/// TLS alerts (RFC 8446, section 6.2) with which one side says that it does not accept the other's certificate:
/// bad, unsupported, revoked, expired, unknown certificate, unknown authority, access denied (ours), a signature
/// that does not verify, no certificate at all.
const ALERTS_FOREIGN: [u8; 9] = [42, 43, 44, 45, 46, 48, 49, 51, 116];

/// Alerts for the lack of anything in common: handshake failure, protocol version, no application protocol.
const ALERTS_VERSION: [u8; 3] = [40, 70, 120];

/// The longest closing reason of a peer that is kept, in characters.
const REASON_CHARS_MAX: usize = 300;

/// What ended a connection, or kept it from being made.
///
/// `Display` is one fragment that fits after "connection to ADDRESS: ".
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// This side refused: the other end's key is not the pinned one.
    PeerIsForeign,
    /// The other end refused: it does not know our key.
    WeAreForeign,
    /// Both are who they should be, or may be, but speak no common version of the protocol.
    Version,
    /// The master has too many handshakes under way.
    Busy,
    /// Nothing came back in time.
    TimedOut,
    /// The other end has restarted and knows the connection no more.
    Reset,
    /// The other end closed the connection on purpose.
    ClosedByPeer {
        /// The application's code.
        code: u64,
        /// The application's words, without control characters and cut to 300 characters.
        reason: String,
    },
    /// This process closed the connection.
    ClosedHere,
    /// One side broke the rules of QUIC or TLS.
    Protocol {
        /// Whether this side noticed, rather than the other.
        noticed_here: bool,
        /// The transport error code (RFC 9000, section 20.1); 0x100 and above are TLS alerts.
        code: u64,
    },
}

impl Refusal {
    /// Whether trying again with the same keys and the same build is pointless.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::PeerIsForeign | Self::WeAreForeign | Self::Version | Self::ClosedHere)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PeerIsForeign => f.write_str(
                "the other end is not the one whose key is pinned here; it belongs to another cluster, or its \
                 keys were made anew",
            ),
            Self::WeAreForeign => f.write_str(
                "the other end does not know this process's key; the access file is of another cluster, or from \
                 before its keys were made anew",
            ),
            Self::Version => f.write_str(
                "the other end speaks another version of the cw protocol, or is no cw process at all",
            ),
            Self::Busy => f.write_str("the master is busy with other handshakes"),
            Self::TimedOut => f.write_str(
                "no answer in time; nothing listens there, or UDP is blocked on the way",
            ),
            Self::Reset => f.write_str("the other end has restarted"),
            Self::ClosedByPeer { reason, code } if reason.is_empty() => {
                write!(f, "closed by the other end with code {code}")
            }
            Self::ClosedByPeer { reason, .. } => write!(f, "closed by the other end: {reason}"),
            Self::ClosedHere => f.write_str("closed by this process"),
            Self::Protocol { noticed_here: true, code } => {
                write!(f, "the other end broke the QUIC protocol (code {code:#x})")
            }
            Self::Protocol { noticed_here: false, code } => {
                write!(f, "the other end ended the connection with a QUIC error (code {code:#x})")
            }
        }
    }
}

/// Translates an error of a connection.
///
/// A client whose key the master refuses has finished its own side of the handshake before: its connection
/// looks established, and this error meets it at the first use of a stream.
pub fn explain(error: &ConnectionError) -> Refusal {
    match error {
        ConnectionError::VersionMismatch => Refusal::Version,
        ConnectionError::TransportError(error) => by_code(error.code, true),
        ConnectionError::ConnectionClosed(close) => by_code(close.error_code, false),
        ConnectionError::ApplicationClosed(close) => {
            Refusal::ClosedByPeer { code: close.error_code.into_inner(), reason: printable(&close.reason) }
        }
        ConnectionError::Reset => Refusal::Reset,
        ConnectionError::TimedOut => Refusal::TimedOut,
        ConnectionError::LocallyClosed => Refusal::ClosedHere,
        ConnectionError::CidsExhausted => {
            Refusal::Protocol { noticed_here: true, code: TransportErrorCode::INTERNAL_ERROR.into() }
        }
    }
}

fn by_code(code: TransportErrorCode, noticed_here: bool) -> Refusal {
    let foreign = if noticed_here { Refusal::PeerIsForeign } else { Refusal::WeAreForeign };
    match alert(code) {
        Some(alert) if ALERTS_FOREIGN.contains(&alert) => foreign,
        Some(alert) if ALERTS_VERSION.contains(&alert) => Refusal::Version,
        _ if code == TransportErrorCode::CONNECTION_REFUSED => Refusal::Busy,
        // A program's own close before the handshake is done (RFC 9000, section 10.2.3); its words are left out.
        _ if code == TransportErrorCode::APPLICATION_ERROR && !noticed_here => {
            Refusal::ClosedByPeer { code: 0, reason: String::new() }
        }
        _ => Refusal::Protocol { noticed_here, code: code.into() },
    }
}

/// The TLS alert in a transport error code, if it carries one (RFC 9001, section 4.8).
fn alert(code: TransportErrorCode) -> Option<u8> {
    u64::from(code).checked_sub(0x100).and_then(|alert| u8::try_from(alert).ok())
}

/// A peer's words made fit for a terminal.
fn printable(reason: &[u8]) -> String {
    let text = String::from_utf8_lossy(reason);
    text.chars().filter(|c| !c.is_control()).take(REASON_CHARS_MAX).collect()
}

/// Why a connection ended, in words; `otherwise` while it has not, or nobody knows.
pub fn why_closed(connection: &quinn::Connection, otherwise: String) -> String {
    connection.close_reason().map_or(otherwise, |error| match explain(&error) {
        Refusal::TimedOut => "the other end fell silent".to_owned(),
        other => other.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_alert_reads_differently_on_its_two_ends() {
        let denied = TransportErrorCode::crypto(49);
        assert_eq!(by_code(denied, true), Refusal::PeerIsForeign);
        assert_eq!(by_code(denied, false), Refusal::WeAreForeign);
        assert!(by_code(denied, true).is_final() && by_code(denied, false).is_final());
    }

    #[test]
    fn other_codes() {
        assert_eq!(by_code(TransportErrorCode::crypto(120), false), Refusal::Version);
        assert_eq!(by_code(TransportErrorCode::CONNECTION_REFUSED, false), Refusal::Busy);
        let other = by_code(TransportErrorCode::PROTOCOL_VIOLATION, true);
        assert_eq!(other, Refusal::Protocol { noticed_here: true, code: 0xa });
        assert!(!other.is_final());
        let closed = Refusal::ClosedByPeer { code: 0, reason: String::new() };
        assert_eq!(by_code(TransportErrorCode::APPLICATION_ERROR, false), closed);
        assert!(!explain(&ConnectionError::TimedOut).is_final());
        assert!(!explain(&ConnectionError::Reset).is_final());
        assert!(explain(&ConnectionError::LocallyClosed).is_final());
    }

    #[test]
    fn reasons_are_made_harmless() {
        let close = quinn::ApplicationClose {
            error_code: 7u32.into(),
            reason: [b"\x1b[2Jgone\n".as_slice(), &[b'x'; 1000]].concat().into(),
        };
        let Refusal::ClosedByPeer { code, reason } = explain(&ConnectionError::ApplicationClosed(close))
        else {
            panic!("an application's close");
        };
        assert_eq!(code, 7);
        assert!(reason.starts_with("[2Jgonex"));
        assert_eq!(reason.chars().count(), REASON_CHARS_MAX);
    }
}
