//! `wattctl inject`: one request to a service, over the mesh, as an operator. It goes to the mesh proxy, not to the daemon,
//! which never reads what a service answers.

use std::io::Read;

use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response,
    body::{Bytes, Incoming},
    header,
};
use hyper_util::rt::TokioIo;

use crate::{
    args,
    context::Running,
    exit::{Exit, Failure, Outcome},
    text::out,
};

/// The largest response that `--json` collects, in bytes.
const JSON_BODY_MAX: usize = 64 << 20;

/// Runs the command. Exits with `Failed` for answers of 400 and above.
pub async fn run(arguments: args::Inject) -> Outcome {
    let running = Running::find(&arguments.which)?;
    let request = request(&arguments)?;
    let response = send(&running, request).await?;
    let failed = response.status().as_u16() >= 400;
    if arguments.print.json {
        print_json(response).await?;
    } else {
        print_text(response, arguments.include).await?;
    }
    Ok(if failed { Exit::Failed } else { Exit::Ok })
}

fn request(arguments: &args::Inject) -> Result<Request<Full<Bytes>>, Failure> {
    let usage = |message: String| Failure::new(Exit::Usage, message);
    let path =
        if arguments.path.starts_with('/') { arguments.path.clone() } else { format!("/{}", arguments.path) };
    let body = match &arguments.data {
        Some(data) => body(data)?,
        None => Vec::new(),
    };
    let method = match (&arguments.method, &arguments.data) {
        (Some(method), _) => {
            Method::from_bytes(method.as_bytes()).map_err(|_| usage(format!("{method:?} is not a method")))?
        }
        (None, Some(_)) => Method::POST,
        (None, None) => Method::GET,
    };
    let mut builder = Request::builder()
        .method(method)
        .uri(&path)
        .header(header::HOST, format!("{}.plt.local", arguments.service))
        .header(header::USER_AGENT, concat!("wattctl/", env!("CARGO_PKG_VERSION")));
    for given in &arguments.headers {
        let (name, value) = given
            .split_once(':')
            .ok_or_else(|| usage(format!("{given:?} is not a header")).hint("write 'name: value'"))?;
        builder = builder.header(name.trim(), value.trim());
    }
    builder.body(Full::new(body.into())).map_err(|error| usage(format!("this makes no request: {error}")))
}

fn body(data: &str) -> Result<Vec<u8>, Failure> {
    let unreadable = |from: &str, error| Failure::new(Exit::Usage, format!("cannot read {from}: {error}"));
    match data.strip_prefix('@') {
        Some("-") => {
            let mut body = Vec::new();
            std::io::stdin().read_to_end(&mut body).map_err(|error| unreadable("standard input", error))?;
            Ok(body)
        }
        Some(file) => std::fs::read(file).map_err(|error| unreadable(file, error)),
        None => Ok(data.as_bytes().to_vec()),
    }
}

async fn send(running: &Running, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Failure> {
    let socket = running.mesh_socket();
    let unreachable = |error: String| {
        Failure::new(Exit::Host, format!("cannot reach the mesh at {}: {error}", socket.display()))
            .hint("`wattctl status` says whether the mesh proxy runs")
    };
    let stream =
        tokio::net::UnixStream::connect(&socket).await.map_err(|error| unreachable(error.to_string()))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| unreachable(error.to_string()))?;
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(|error| unreachable(error.to_string()))
}

async fn print_text(mut response: Response<Incoming>, head: bool) -> Result<(), Failure> {
    if head {
        let mut text = format!("{:?} {}\n", response.version(), response.status());
        for (name, value) in response.headers() {
            text.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())));
        }
        out::print(&(text + "\n"));
    }
    while let Some(frame) = response.body_mut().frame().await {
        if let Ok(data) = frame.map_err(broken)?.into_data() {
            out::bytes(&data);
        }
    }
    Ok(())
}

async fn print_json(response: Response<Incoming>) -> Result<(), Failure> {
    let (head, body) = response.into_parts();
    let body = http_body_util::Limited::new(body, JSON_BODY_MAX)
        .collect()
        .await
        .map_err(|error| Failure::new(Exit::Failed, format!("the answer could not be read: {error}")))?
        .to_bytes();
    let headers: Vec<(String, String)> = head
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    out::json(&serde_json::json!({
        "status": head.status.as_u16(),
        "headers": headers,
        "body": String::from_utf8_lossy(&body),
    }));
    Ok(())
}

fn broken(error: hyper::Error) -> Failure {
    Failure::new(Exit::Failed, format!("the answer broke off: {error}"))
}
