//! The metrics endpoint over HTTP. A test binary of its own: the recorder is one for the whole
//! process.
#![cfg(feature = "prometheus")]
#![allow(clippy::unwrap_used)] // Clippy allows it in test functions only, not in what they call.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use keylane::metrics::{PrometheusError, serve_prometheus};

fn request(address: SocketAddr, method: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
}

#[test]
fn one_call_serves_metrics_on_a_free_port_of_the_loopback() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let refused = serve_prometheus(taken.local_addr().unwrap()).unwrap_err();
    assert!(matches!(refused, PrometheusError::Bind { .. }), "{refused}");

    // The failure left no recorder behind.
    let endpoint = serve_prometheus(0).unwrap();
    assert!(endpoint.local_addr().ip().is_loopback());
    assert_ne!(endpoint.local_addr().port(), 0);

    metrics::counter!("requests_total").increment(3);
    for path in ["/metrics", "/"] {
        let response = request(endpoint.local_addr(), "GET", path);
        assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
        assert!(
            response.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"),
            "{response}"
        );
        assert!(response.contains("\nrequests_total 3\n"), "{response}");
    }
    assert!(endpoint.handle().render().contains("requests_total 3"));

    let head = request(endpoint.local_addr(), "HEAD", "/metrics");
    assert!(
        head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
    assert!(request(endpoint.local_addr(), "GET", "/nothing").starts_with("HTTP/1.1 404 "));
    assert!(request(endpoint.local_addr(), "POST", "/metrics").starts_with("HTTP/1.1 405 "));

    let again = serve_prometheus(0).unwrap_err();
    assert!(
        matches!(again, PrometheusError::RecorderInstalled),
        "{again}"
    );
    assert!(
        again.to_string().contains("call serve_prometheus once"),
        "{again}"
    );
}
