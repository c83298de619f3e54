//! Serves one listener.

use std::convert::Infallible;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;

use super::answers::refusal;
use super::connections::Room;
use super::observed::Observed;
use crate::accept::{Listener, accept};

/// The longest head of a request that is read. Go reads up to a megabyte. No probe needs a hundredth of this, and the
/// heads of strangers take memory.
const HEAD: usize = 16 << 10;

/// Answers requests at once. When this is dropped, its connections end too.
pub(crate) async fn serve<L, A>(listener: L, room: Room, answer: A)
where
    L: Listener,
    A: Fn(&Request<Incoming>) -> Response<String> + Clone + Send + 'static,
{
    serve_later(listener, room, move |request: &Request<Incoming>| {
        std::future::ready(answer(request))
    })
    .await;
}

/// The same with answers that take a while.
pub(crate) async fn serve_later<L, A, R>(listener: L, room: Room, answer: A)
where
    L: Listener,
    A: Fn(&Request<Incoming>) -> R + Clone + Send + 'static,
    R: Future<Output = Response<String>> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            stream = accept(&listener, || room.make_room()) => {
                let visit = room.enter();
                let (answer, progress) = (answer.clone(), visit.progress());
                let answer = service_fn(move |request: Request<Incoming>| {
                    progress.asked();
                    let refused = refusal(request.method(), request.version(), request.headers());
                    let response = refused.map_or_else(|| Err(answer(&request)), Ok);
                    async move {
                        Ok::<_, Infallible>(match response {
                            Ok(refused) => refused,
                            Err(answer) => answer.await,
                        })
                    }
                });
                let mut http = http1::Builder::new();
                // The limits of the visit replace this one.
                http.header_read_timeout(None).max_buf_size(HEAD);
                let stream = Observed::new(stream, &visit);
                // If a client closes its connection early, the reason does not matter here.
                tasks.spawn(visit.during(http.serve_connection(TokioIo::new(stream), answer)));
            }
            Some(_) = tasks.join_next() => {}
        }
    }
}
