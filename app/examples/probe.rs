//! Temporary.
use handover::*;
use handover_core::engine::*;
use std::path::PathBuf;
#[tokio::main(flavor = "current_thread")]
async fn main() {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let args: Vec<String> = std::env::args().collect();
    let dir = PathBuf::from(&args[1]);
    let out = PathBuf::from(&args[2]);
    let mk = |n: &str| Config {
        data_dir: std::env::temp_dir().join(n),
        loopback: true,
        tcp: args.get(3).is_none_or(|t| t == "tcp"),
        quic: args.get(3).is_none_or(|t| t == "quic"),
        ..Config::default()
    };
    let mut a = UnifiedP2PManager::new(mk("hp-a")).unwrap();
    let mut b = UnifiedP2PManager::new(mk("hp-b")).unwrap();
    a.start().await.unwrap();
    b.start().await.unwrap();
    let mut ea = a.events().unwrap();
    let mut eb = b.events().unwrap();
    tokio::spawn(async move {
        while let Some(e) = ea.recv().await {
            eprintln!("A {e:?}");
        }
    });
    let info = a.start_sharing("x", "", vec![dir], "me").await.unwrap();
    let id = b.start_receiving(&info.encode(), &out, "b").await.unwrap();
    while let Some(e) = eb.recv().await {
        eprintln!("B {e:?}");
        match e {
            Event::Offer { .. } => b
                .accept(
                    id,
                    AcceptTerms {
                        select: None,
                        on_conflict: OnConflict::Rename,
                        executables: true,
                    },
                )
                .await
                .unwrap(),
            Event::DownloadEnded { .. } => break,
            _ => {}
        }
    }
    let t = std::time::Instant::now();
    eprintln!("T0");
    b.stop().await;
    eprintln!("T b {:?}", t.elapsed());
    a.stop().await;
    eprintln!("T a {:?}", t.elapsed());
}
