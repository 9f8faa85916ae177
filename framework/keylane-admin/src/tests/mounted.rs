//! The router in an app that has paths of its own.

use axum::routing::get as route_get;

use super::*;
use crate::routes;

fn app(subscription: &Arc<Scripted>) -> Router {
    let shared = shared([subscription], Some(TOKEN));
    Router::new()
        .route("/", route_get(|| async { "the app" }))
        .nest("/keylane", routes::mounted(shared.clone()))
        .merge(routes::mounted(shared))
        .fallback(|| async { (StatusCode::NOT_FOUND, "not of the app") })
}

async fn ask_app(method: &str, path: &str, host: &str, token: &str, body: usize) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("Host", host)
        .header("Authorization", format!("Bearer {token}"))
        .body(Body::from(vec![b'x'; body]))
        .unwrap();
    answer(app(&running("a")), request).await
}

#[tokio::test]
async fn what_it_does_not_serve_stays_the_apps() {
    for (path, text) in [("/", "the app"), ("/nothing", "not of the app")] {
        let answer = ask_app("GET", path, "app.example.com", "", 0).await;
        assert_eq!(answer.text, text);
        assert!(!answer.headers.contains_key("cache-control"), "{path}");
    }
    let nested = ask_app("GET", "/keylane/nothing", "app.example.com", "", 0).await;
    assert_eq!(nested.text, "not of the app");
}

#[tokio::test]
async fn the_same_rules_hold_under_a_prefix_and_without() {
    for prefix in ["", "/keylane"] {
        let pause = format!("{prefix}/v1/subscriptions/a/pause");
        for (method, path, host, token, body, expected) in [
            (
                "GET",
                &format!("{prefix}/health/ready"),
                "localhost",
                "",
                0,
                200,
            ),
            (
                "GET",
                &format!("{prefix}/health/ready"),
                "example.com",
                "",
                0,
                403,
            ),
            ("POST", &pause, "localhost", TOKEN, 0, 202),
            ("POST", &pause, "localhost", "another", 0, 401),
            ("POST", &pause, "localhost", TOKEN, 1 << 20, 413),
            ("GET", &pause, "localhost", TOKEN, 0, 405),
        ] {
            let answer = ask_app(method, path, host, token, body).await;
            let at = format!("{method} {path} {host} {token} {body}");
            assert_eq!(answer.status.as_u16(), expected, "{at}");
            assert_eq!(answer.headers["cache-control"], "no-store", "{at}");
            assert!(answer.content_type().starts_with("application/"), "{at}");
        }
    }
}

/// The server of the description is relative to where the description was read, so that its paths
/// hold under a prefix.
#[tokio::test]
async fn the_described_paths_hold_under_a_prefix() {
    for prefix in ["", "/keylane"] {
        let document = format!("{prefix}/openapi.json");
        let answer = ask_app("GET", &document, "localhost", "", 0).await;
        assert_eq!(answer.json()["servers"][0]["url"], ".");
        let (directory, _) = document.rsplit_once('/').unwrap();
        let described = answer.json()["paths"].as_object().unwrap().clone();
        for path in described.keys().filter(|path| !path.contains('{')) {
            let path = format!("{directory}{path}");
            let answer = ask_app("GET", &path, "localhost", "", 0).await;
            assert_ne!(answer.text, "not of the app", "{path}");
        }
    }
}

#[test]
fn a_server_and_its_router_show_the_same_subscriptions() {
    let server = crate::AdminServer::builder().start().unwrap();
    let _router: Router = server.router();
    let routes = server.routes().clone();
    routes.serve(subscription("a")).unwrap();
    assert!(server.remove("a"));
}
