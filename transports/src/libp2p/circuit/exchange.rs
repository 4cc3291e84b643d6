//! The conversations of the protocol: what is said on one stream, and in which order.

use futures::{AsyncRead, AsyncWrite, AsyncWriteExt};
use libp2p::PeerId;

use super::Error;
use super::messages::{CircuitLimit, HopMessage, Reservation, Status, StopMessage};
use crate::libp2p::delimited::{self, WireError};

/// What a relay has promised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Promise {
    pub(super) reservation: Reservation,
    /// What each circuit may carry.
    pub(super) limit: Option<CircuitLimit>,
}

/// Asks a relay for a reservation.
pub(super) async fn reserve<S>(mut stream: S) -> Result<Promise, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    delimited::write(&mut stream, &HopMessage::reserve()).await?;
    let answer: HopMessage = delimited::read(&mut stream).await?;
    // What was to be had from this stream was had, however it ends.
    stream.close().await.ok();
    granted(&answer)?;
    let reservation = answer.reservation.ok_or(WireError::Malformed)?;
    let limit = CircuitLimit::of(answer.limit);
    Ok(Promise { reservation, limit })
}

/// Asks a relay for a circuit. The stream is the circuit then.
pub(super) async fn connect<S>(
    mut stream: S,
    to: PeerId,
) -> Result<(S, Option<CircuitLimit>), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    delimited::write(&mut stream, &HopMessage::connect(to)).await?;
    let answer: HopMessage = delimited::read(&mut stream).await?;
    granted(&answer)?;
    Ok((stream, CircuitLimit::of(answer.limit)))
}

fn granted(answer: &HopMessage) -> Result<(), Error> {
    match answer.answer() {
        Some(Status::Ok) => Ok(()),
        Some(status) => Err(Error::Refused(status)),
        None => Err(WireError::Malformed.into()),
    }
}

/// A circuit that a relay offers.
#[derive(Debug)]
pub(super) struct Offer<S> {
    pub(super) stream: S,
    /// From whom it comes, by what the relay says; the handshake on the circuit proves it or does not.
    pub(super) from: PeerId,
    pub(super) limit: Option<CircuitLimit>,
}

/// Hears what a relay offers.
pub(super) async fn hear<S>(mut stream: S) -> Result<Offer<S>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let offer: StopMessage = delimited::read(&mut stream).await?;
    let Some(from) = offer.source() else {
        refuse(stream, Status::MalformedMessage).await?;
        return Err(WireError::Malformed.into());
    };
    let limit = CircuitLimit::of(offer.limit);
    Ok(Offer {
        stream,
        from,
        limit,
    })
}

/// Takes a circuit. The stream is the circuit then.
pub(super) async fn accept<S>(mut stream: S) -> Result<S, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    delimited::write(&mut stream, &StopMessage::answering(Status::Ok)).await?;
    Ok(stream)
}

/// Does not take a circuit.
pub(super) async fn refuse<S>(mut stream: S, status: Status) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    delimited::write(&mut stream, &StopMessage::answering(status)).await?;
    stream.close().await?;
    Ok(())
}
