//! Addresses with names in them: `/dns`, `/dns4`, `/dns6` and `/dnsaddr`.
//!
//! One name often resolves to several addresses, of both families and some of them dead, or only to further names. All
//! names are looked up concurrently, and the results are dialled as in Happy Eyeballs (RFC 8305): the families
//! alternate, and the next address is dialled when the last one has failed or has not answered for a while. The first
//! connection wins.

use std::collections::VecDeque;
use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{BoxFuture, MapErr, ready};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt, TryFutureExt};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::system_conf::read_system_conf;
use libp2p::Multiaddr;
use libp2p::core::transport::{DialOpts, ListenerId, Transport, TransportError, TransportEvent};
use libp2p::multiaddr::Protocol;
use tokio::time::{Instant, sleep_until};

use super::outbound::Permits;

/// Delay before the next address is dialled alongside an unanswered one.
const STAGGER: Duration = Duration::from_millis(250);
/// Maximum number of lookups for one address.
const MAX_LOOK_UPS: usize = 32;
/// Maximum number of addresses dialled for one address.
const MAX_DIALS: usize = 16;
/// Maximum number of addresses used from one answer.
const MAX_FOUND: usize = 16;

/// A question to the DNS.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Question {
    Ipv4(String),
    Ipv6(String),
    /// The name's `dnsaddr` records.
    Addresses(String),
}

/// The addresses that a name resolves to, or why there are none.
type Answer = Result<Vec<Multiaddr>, String>;
type LookUp = Arc<dyn Fn(Question) -> BoxFuture<'static, Answer> + Send + Sync>;

/// Why no address behind a name could be reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NameError {
    /// A name could not be resolved.
    #[error("a name could not be resolved: {0}")]
    Unknown(String),
    /// The transport reported an error.
    #[error("{0}")]
    Dial(#[source] Box<dyn Error + Send + Sync>),
    /// No transport supports the address.
    #[error("unsupported resolved address: {0}")]
    Unsupported(Multiaddr),
    /// Several failures.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    All(Vec<NameError>),
}

/// A transport that also dials addresses with names in them.
pub(crate) struct Names<T> {
    inner: Arc<Mutex<T>>,
    look_up: LookUp,
    permits: Permits,
}

impl<T> Names<T> {
    /// Resolves names as the system is configured to.
    pub(crate) fn of_system(inner: T, system: System, permits: Permits) -> Self {
        Self::looked_up_by(inner, system.0, permits)
    }

    fn looked_up_by(inner: T, look_up: LookUp, permits: Permits) -> Self {
        Self {
            inner: Arc::new(Mutex::new(inner)),
            look_up,
            permits,
        }
    }
}

fn lock<T>(inner: &Mutex<T>) -> MutexGuard<'_, T> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Transport for Names<T>
where
    T: Transport + Send + Unpin + 'static,
    T::Output: Send,
    T::Dial: Send + 'static,
    T::Error: Send + Sync,
{
    type Output = T::Output;
    type Error = NameError;
    type ListenerUpgrade = MapErr<T::ListenerUpgrade, fn(T::Error) -> NameError>;
    type Dial = BoxFuture<'static, Result<T::Output, NameError>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<Self::Error>> {
        let listening = lock(&self.inner).listen_on(id, address);
        listening.map_err(|error| error.map(of_transport))
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        lock(&self.inner).remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<Self::Error>> {
        if first_name(&address).is_none() {
            let dial = lock(&self.inner).dial(address, options);
            let dial = dial.map_err(|error| error.map(of_transport))?;
            return Ok(dial.map_err(of_transport).boxed());
        }
        let inner = Arc::clone(&self.inner);
        let (permits, named) = (self.permits.clone(), address.clone());
        let dial = move |address| {
            permits.resolved(&named, &address);
            let begun = lock(&inner).dial(address, options);
            match begun {
                Ok(dial) => dial.map_err(of_transport).boxed(),
                Err(TransportError::MultiaddrNotSupported(address)) => {
                    ready(Err(NameError::Unsupported(address))).boxed()
                }
                Err(TransportError::Other(error)) => ready(Err(of_transport(error))).boxed(),
            }
        };
        Ok(first_to_answer(address, Arc::clone(&self.look_up), dial).boxed())
    }

    fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        let polled = Pin::new(&mut *lock(&self.inner)).poll(cx);
        polled.map(|event| {
            let mapped = event.map_upgrade(|upgrade| upgrade.map_err(of_transport as fn(_) -> _));
            mapped.map_err(of_transport)
        })
    }
}

fn of_transport(error: impl Error + Send + Sync + 'static) -> NameError {
    NameError::Dial(Box::new(error))
}

/// Dials everything that an address resolves to and returns the first connection.
async fn first_to_answer<O>(
    address: Multiaddr,
    look_up: LookUp,
    dial: impl Fn(Multiaddr) -> BoxFuture<'static, Result<O, NameError>>,
) -> Result<O, NameError> {
    let mut search = Search::new(look_up);
    search.add(address);
    let mut dials = FuturesUnordered::new();
    let mut next_at = Instant::now();
    loop {
        if (dials.is_empty() || next_at <= Instant::now())
            && let Some(address) = search.next()
        {
            tracing::debug!(%address, "an address behind a name is dialled");
            dials.push(dial(address));
            next_at = Instant::now() + STAGGER;
        }
        let waiting = !search.waiting.is_empty();
        tokio::select! {
            Some(dialled) = dials.next() => match dialled {
                Ok(connection) => return Ok(connection),
                Err(error) => {
                    search.failures.push(error);
                    next_at = Instant::now();
                }
            },
            Some(found) = search.looking.next() => search.found(found),
            () = sleep_until(next_at), if waiting => {}
            else => return Err(search.into_failure()),
        }
    }
}

/// The search for the addresses that an address with a name in it resolves to.
struct Search {
    look_up: LookUp,
    looking: FuturesUnordered<BoxFuture<'static, Found>>,
    look_ups: usize,
    /// Resolved addresses not yet dialled, in the order in which they were found.
    waiting: VecDeque<Multiaddr>,
    dialled: Vec<Multiaddr>,
    failures: Vec<NameError>,
}

/// The answer for the name at index `place` of an address.
struct Found {
    address: Multiaddr,
    place: usize,
    /// True if the answer includes the rest of the address.
    whole: bool,
    answer: Answer,
}

impl Search {
    fn new(look_up: LookUp) -> Self {
        Self {
            look_up,
            looking: FuturesUnordered::new(),
            look_ups: 0,
            waiting: VecDeque::new(),
            dialled: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// Looks up the first name of an address. An address without names is queued for dialling.
    fn add(&mut self, address: Multiaddr) {
        let Some((place, questions)) = first_name(&address) else {
            let known = self.waiting.contains(&address) || self.dialled.contains(&address);
            if !known && self.waiting.len() + self.dialled.len() < MAX_DIALS {
                self.waiting.push_back(address);
            }
            return;
        };
        for question in questions {
            if self.look_ups >= MAX_LOOK_UPS {
                tracing::debug!(%address, "too many names to look up for one address");
                return;
            }
            self.look_ups += 1;
            let whole = matches!(question, Question::Addresses(_));
            let answer = (self.look_up)(question);
            let address = address.clone();
            let found = answer.map(move |answer| Found {
                address,
                place,
                whole,
                answer,
            });
            self.looking.push(found.boxed());
        }
    }

    fn found(&mut self, found: Found) {
        let answers = match found.answer {
            Ok(answers) => answers,
            Err(error) => return self.failures.push(NameError::Unknown(error)),
        };
        let before: Multiaddr = found.address.iter().take(found.place).collect();
        let after: Multiaddr = found.address.iter().skip(found.place + 1).collect();
        let fits = |answer: &Multiaddr| !found.whole || answer.ends_with(&after);
        for answer in answers.iter().filter(|it| fits(it)).take(MAX_FOUND) {
            let rest = after.iter().filter(|_| !found.whole);
            self.add(before.iter().chain(answer.iter()).chain(rest).collect());
        }
    }

    /// Takes the next address to dial, preferably one of the other family than the last.
    fn next(&mut self) -> Option<Multiaddr> {
        let last = self.dialled.last().map(is_ipv6);
        let other = |address: &Multiaddr| Some(is_ipv6(address)) != last;
        let next = self.waiting.iter().position(other).unwrap_or(0);
        let address = self.waiting.remove(next)?;
        self.dialled.push(address.clone());
        Some(address)
    }

    /// The error to report. An address that could not be reached matters more than a name without addresses of one
    /// family.
    fn into_failure(mut self) -> NameError {
        let dialled = |failure: &NameError| matches!(failure, NameError::Dial(_));
        if self.failures.iter().any(dialled) {
            self.failures.retain(dialled);
        }
        match self.failures.len() {
            0 => NameError::Unknown("it stands for no address of this kind".into()),
            1 => self.failures.remove(0),
            _ => NameError::All(self.failures),
        }
    }
}

fn is_ipv6(address: &Multiaddr) -> bool {
    matches!(address.iter().next(), Some(Protocol::Ip6(_)))
}

/// The index of the first name in an address, and the questions to ask for it.
fn first_name(address: &Multiaddr) -> Option<(usize, Vec<Question>)> {
    let questions = |part| match part {
        Protocol::Dns(name) => Some(vec![
            Question::Ipv6(name.to_string()),
            Question::Ipv4(name.to_string()),
        ]),
        Protocol::Dns4(name) => Some(vec![Question::Ipv4(name.to_string())]),
        Protocol::Dns6(name) => Some(vec![Question::Ipv6(name.to_string())]),
        Protocol::Dnsaddr(name) => Some(vec![Question::Addresses(name.to_string())]),
        _ => None,
    };
    let mut parts = address.iter().enumerate();
    parts.find_map(|(place, part)| Some((place, questions(part)?)))
}

/// The system's resolver.
pub(crate) struct System(LookUp);

impl System {
    /// Reads the system's configuration.
    pub(crate) fn new() -> io::Result<Self> {
        let (config, options) = read_system_conf().map_err(io::Error::other)?;
        let resolver = |strategy| {
            let mut options = options.clone();
            options.ip_strategy = strategy;
            TokioResolver::builder_with_config(config.clone(), TokioRuntimeProvider::default())
                .with_options(options)
                .build()
                .map_err(io::Error::other)
        };
        let ipv4 = Arc::new(resolver(LookupIpStrategy::Ipv4Only)?);
        let ipv6 = Arc::new(resolver(LookupIpStrategy::Ipv6Only)?);
        Ok(Self(Arc::new(move |question| match question {
            Question::Ipv4(name) => ips(Arc::clone(&ipv4), name).boxed(),
            Question::Ipv6(name) => ips(Arc::clone(&ipv6), name).boxed(),
            Question::Addresses(name) => records(Arc::clone(&ipv4), name).boxed(),
        })))
    }
}

async fn ips(resolver: Arc<TokioResolver>, name: String) -> Answer {
    let found = resolver.lookup_ip(name).await;
    let found = found.map_err(|error| error.to_string())?;
    Ok(found.iter().map(Multiaddr::from).collect())
}

async fn records(resolver: Arc<TokioResolver>, name: String) -> Answer {
    let found = resolver.txt_lookup(format!("_dnsaddr.{name}")).await;
    let found = found.map_err(|error| error.to_string())?;
    let texts = found
        .answers()
        .iter()
        .filter_map(|record| match &record.data {
            RData::TXT(text) => text.txt_data.first(),
            _ => None,
        });
    let address = |text: &[u8]| {
        let text = std::str::from_utf8(text).ok()?;
        text.strip_prefix("dnsaddr=")?.parse().ok()
    };
    Ok(texts.filter_map(|text| address(text)).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::pending;

    use super::*;

    fn at(address: &str) -> Multiaddr {
        address.parse().unwrap()
    }

    /// Resolves these names; lookups of any other name never end.
    fn names(known: &'static [(&'static str, &'static [&'static str])]) -> LookUp {
        Arc::new(move |question| {
            let (Question::Ipv4(name) | Question::Ipv6(name) | Question::Addresses(name)) =
                &question;
            let of_family = |address: &&&str| match question {
                Question::Ipv4(_) => address.starts_with("/ip4"),
                Question::Ipv6(_) => address.starts_with("/ip6"),
                Question::Addresses(_) => true,
            };
            match known.iter().find(|(known, _)| known == name) {
                Some((_, addresses)) => {
                    let found = addresses.iter().filter(of_family).map(|it| at(it));
                    ready(Ok(found.collect())).boxed()
                }
                None => pending().boxed(),
            }
        })
    }

    /// Dials that reach only this address. Those with a 9 as port fail, all others never answer.
    fn only(
        good: &'static str,
    ) -> impl Fn(Multiaddr) -> BoxFuture<'static, Result<Multiaddr, NameError>> {
        move |address| {
            if address == at(good) {
                ready(Ok(address)).boxed()
            } else if address.to_string().contains("/9") {
                ready(Err(NameError::Unsupported(address))).boxed()
            } else {
                pending().boxed()
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_name_does_not_hold_up_an_address_beside_it() {
        let known = names(&[(
            "all",
            &["/ip4/192.0.2.1/tcp/1", "/dns4/dead/tcp/1", "/dnsaddr/dead"],
        )]);
        let before = Instant::now();
        let dial = first_to_answer(at("/dnsaddr/all"), known, only("/ip4/192.0.2.1/tcp/1"));
        assert_eq!(dial.await.unwrap(), at("/ip4/192.0.2.1/tcp/1"));
        assert_eq!(before.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_that_never_answer_cost_their_stagger_and_no_more() {
        let known = names(&[(
            "two",
            &["/ip6/2001:db8::1", "/ip6/2001:db8::2", "/ip4/192.0.2.1"],
        )]);
        let before = Instant::now();
        let dial = first_to_answer(at("/dns/two/tcp/1"), known, only("/ip4/192.0.2.1/tcp/1"));
        assert_eq!(dial.await.unwrap(), at("/ip4/192.0.2.1/tcp/1"));
        assert_eq!(before.elapsed(), STAGGER, "the families take turns");
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_fails_costs_nothing() {
        let known = names(&[(
            "all",
            &[
                "/ip4/192.0.2.1/tcp/9",
                "/ip4/192.0.2.2/tcp/9",
                "/ip4/192.0.2.3/tcp/1",
            ],
        )]);
        let before = Instant::now();
        let dial = first_to_answer(at("/dnsaddr/all"), known, only("/ip4/192.0.2.3/tcp/1"));
        assert!(dial.await.is_ok());
        assert_eq!(before.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn only_addresses_of_the_wanted_peer_are_dialled() {
        let (wanted, other) = (
            "QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN",
            "QmbLHAnMoJPWSCR5Zhtx6BHJX9KiKNN6tpvbUcqanj75Nb",
        );
        let look_up: LookUp = Arc::new(move |_| {
            let found = [other, wanted].map(|peer| at(&format!("/ip4/192.0.2.1/tcp/1/p2p/{peer}")));
            ready(Ok(found.to_vec())).boxed()
        });
        let dial = |address: Multiaddr| ready(Ok(address)).boxed();
        let address = at(&format!("/dnsaddr/all/p2p/{wanted}"));
        let dialled = first_to_answer(address, look_up, dial).await.unwrap();
        assert_eq!(dialled, at(&format!("/ip4/192.0.2.1/tcp/1/p2p/{wanted}")));
    }

    #[tokio::test(start_paused = true)]
    async fn names_that_lead_to_each_other_come_to_an_end() {
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        let look_up: LookUp = Arc::new(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
            ready(Ok(vec![at("/dnsaddr/a"), at("/dnsaddr/b")])).boxed()
        });
        let dial = only("/ip4/192.0.2.1/tcp/1");
        let error = first_to_answer(at("/dnsaddr/a"), look_up, dial).await;
        assert!(matches!(error, Err(NameError::Unknown(_))), "{error:?}");
        assert_eq!(asked.load(Ordering::Relaxed), MAX_LOOK_UPS);
    }

    #[tokio::test(start_paused = true)]
    async fn what_stands_for_too_much_is_dialled_in_part() {
        let dialled = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&dialled);
        let look_up: LookUp = Arc::new(|question| {
            let Question::Addresses(name) = question else {
                return ready(Err("none".into())).boxed();
            };
            let found = (0..100).map(|host| match name.as_str() {
                "top" => at(&format!("/dnsaddr/{host}")),
                net => at(&format!("/ip4/10.0.{net}.{host}/tcp/9")),
            });
            ready(Ok(found.collect())).boxed()
        });
        let dial = move |address| {
            counter.fetch_add(1, Ordering::Relaxed);
            ready(Err::<(), _>(NameError::Unsupported(address))).boxed()
        };
        let error = first_to_answer(at("/dnsaddr/top"), look_up, dial).await;
        assert!(matches!(error, Err(NameError::All(_))), "{error:?}");
        assert_eq!(dialled.load(Ordering::Relaxed), MAX_DIALS);
    }
}
