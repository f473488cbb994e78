//! One stream of messages to a client that only listens: a log
//! (`apiserver/pkg/util/wsstream`, its reader), a watch.

use crate::StreamError;
use crate::websocket::{failed, goodbye, upgrade};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{SinkExt, Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

/// How the bytes of a message stand in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Binary,
    /// As text: base64 of the bytes.
    Base64,
    /// As text, which they have to be.
    Text,
}

fn message(form: Form, bytes: Bytes) -> Result<Message, StreamError> {
    Ok(match form {
        Form::Binary => Message::Binary(bytes),
        Form::Base64 => Message::text(STANDARD.encode(bytes)),
        Form::Text => match Utf8Bytes::try_from(bytes) {
            Ok(text) => Message::Text(text),
            Err(_) => return Err(StreamError::Protocol("a text is no UTF-8")),
        },
    })
}

/// Sends each piece as a message of its own, waiting for the client to take it,
/// then says goodbye. Ends early, without an error, when the client is gone.
///
/// # Errors
/// The connection fails, or a piece is not of its form.
pub async fn send_messages<IO>(
    io: IO,
    form: Form,
    pieces: impl Stream<Item = Bytes>,
) -> Result<(), StreamError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sink, mut incoming) = upgrade(io).await.split();
    let sending = async {
        tokio::pin!(pieces);
        while let Some(piece) = pieces.next().await {
            sink.send(message(form, piece)?).await.map_err(failed)?;
        }
        sink.send(goodbye()).await.map_err(failed)?;
        sink.close().await.map_err(failed)
    };
    // What it says is of no interest; a ping is answered by reading.
    let listening = async { while let Some(Ok(_)) = incoming.next().await {} };
    tokio::select! {
        outcome = sending => outcome,
        () = listening => Ok(()),
    }
}
