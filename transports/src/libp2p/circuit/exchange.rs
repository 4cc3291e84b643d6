//! The message exchanges of circuit relay v2 on one stream

use futures::{AsyncRead, AsyncWrite, AsyncWriteExt};
use libp2p::PeerId;

use super::Error;
use super::messages::{CircuitLimit, HopMessage, Reservation, Status, StopMessage};
use crate::libp2p::delimited::{self, WireError};

/// A reservation as granted by a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Promise {
    pub(super) reservation: Reservation,
    /// The limit of each circuit.
    pub(super) limit: Option<CircuitLimit>,
}

/// Requests a reservation.
pub(super) async fn reserve<S>(mut stream: S) -> Result<Promise, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    delimited::write(&mut stream, &HopMessage::reserve()).await?;
    let answer: HopMessage = delimited::read(&mut stream).await?;
    // The reply is complete, however the stream ends.
    stream.close().await.ok();
    granted(&answer)?;
    let reservation = answer.reservation.ok_or(WireError::Malformed)?;
    let limit = CircuitLimit::of(answer.limit);
    Ok(Promise { reservation, limit })
}

/// Requests a circuit. On success, the returned stream is the circuit.
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
    /// The peer at the other end, as claimed by the relay. The handshake on the circuit verifies it.
    pub(super) from: PeerId,
    pub(super) limit: Option<CircuitLimit>,
}

/// Reads a relay's offer of a circuit.
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

/// Accepts a circuit. The returned stream is the circuit.
pub(super) async fn accept<S>(mut stream: S) -> Result<S, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    delimited::write(&mut stream, &StopMessage::answering(Status::Ok)).await?;
    Ok(stream)
}

/// Refuses a circuit.
pub(super) async fn refuse<S>(mut stream: S, status: Status) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    delimited::write(&mut stream, &StopMessage::answering(status)).await?;
    stream.close().await?;
    Ok(())
}
