//! `http://<service>.plt.local/` from the ordinary HTTP client of each language, without an SDK, a port or a variable; and
//! `$WATT_MESH_SOCKET`.

use std::process::Command;

use watt_tests::{App, for_each_user, wait};

/// name, program that has to be there, command
const CLIENTS: [(&str, &str, &str); 7] = [
    ("curl", "curl", r#"[curl, -sS, "http://target.plt.local/from-curl"]"#),
    (
        "python",
        "python3",
        r#"[python3, -c, "import urllib.request as u; print(u.urlopen('http://target.plt.local/from-python').read().decode())"]"#,
    ),
    (
        "node",
        "node",
        r#"[node, -e, "fetch('http://target.plt.local/from-node').then(r => r.text()).then(console.log)"]"#,
    ),
    (
        "ruby",
        "ruby",
        r#"[ruby, -rnet/http, -e, "puts Net::HTTP.get(URI('http://target.plt.local/from-ruby'))"]"#,
    ),
    ("php", "php", r#"[php, -r, "echo file_get_contents('http://target.plt.local/from-php'), PHP_EOL;"]"#),
    ("go", "go", r#"[clients/go]"#),
    ("java", "java", r#"[java, -Xshare:auto, -XX:TieredStopAtLevel=1, clients/Client.java]"#),
];

const GO: &str = r#"package main

import (
	"fmt"
	"io"
	"net/http"
)

func main() {
	answer, err := http.Get("http://target.plt.local/from-go")
	if err != nil {
		panic(err)
	}
	body, _ := io.ReadAll(answer.Body)
	fmt.Println(string(body))
}
"#;

const JAVA: &str = r#"
import java.net.URI;
import java.net.http.*;

class Client {
    public static void main(String[] arguments) throws Exception {
        var request = HttpRequest.newBuilder(URI.create("http://target.plt.local/from-java")).build();
        System.out.println(HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString()).body());
    }
}
"#;

#[test]
fn every_language_calls_by_name() {
    let there = |program: &str| {
        Command::new("which").arg(program).output().is_ok_and(|output| output.status.success())
    };
    for_each_user(|user| {
        for sandbox in ["standard", "strict"] {
            let app = App::case("", user);
            let clients: Vec<_> = CLIENTS.iter().filter(|(_, program, _)| there(program)).collect();
            assert!(clients.len() >= 3, "hardly any language is installed");
            let services: String = clients
            .iter()
            .map(|(name, _, command)| {
                format!("  {name}: {{ command: {command}, listen: none, restart: on-failure, depends_on: {{ target: ready }} }}\n")
            })
            .collect();
            app.write(
            "watt.yaml",
            &format!("sandbox: {sandbox}\nservices:\n  target: {{ command: python3 services/web.py }}\n{services}"),
        );
            app.write("clients/Client.java", JAVA);
            app.write("clients/client.go", GO);
            if there("go") {
                // Without cgo, Go resolves names by itself and not through the C library: the hard case.
                let built = Command::new("go")
                    .args(["build", "-o", "go", "client.go"])
                    .current_dir(app.dir.join("clients"))
                    .envs([
                        ("CGO_ENABLED", "0"),
                        ("GO111MODULE", "off"),
                        ("GOCACHE", "/tmp/watt-tests-gocache"),
                        ("GOFLAGS", ""),
                    ])
                    .output()
                    .expect("go runs");
                assert!(built.status.success(), "{}", watt_tests::printed(&built));
            }
            app.run(&["up", "-d"]);
            for (name, _, _) in clients {
                wait(&format!("{name} has had its answer"), || {
                    let output = app.ok(&["logs", name]);
                    let answered = output.contains(&format!("/from-{name}"));
                    let completed = app.service(name)["state"] == "completed";
                    if answered && completed {
                        Ok(())
                    } else {
                        Err(format!("{user:?} in {sandbox}: {output}\n{}", app.service(name)))
                    }
                });
            }
            app.down();
        }
    });
}

#[test]
fn the_mesh_socket_is_the_same_thing_over_a_unix_socket() {
    for_each_user(|user| {
        let app = App::case("", user);
        app.write(
            "watt.yaml",
            r#"
services:
  target: { command: python3 services/web.py }
  caller: { command: python3 services/web.py }
  caller-on-host: { command: python3 services/web.py port, listen: port, network: host }
server: { port: 0 }
gateway:
  routes:
    - { path: /, service: caller }
    - { path: /host, service: caller-on-host, strip: true }
"#,
        );
        app.up();
        for path in ["/mesh/target/x", "/host/mesh/target/x"] {
            let (_, body) = app.get(path);
            assert!(body.contains("\"status\": 200") && body.contains("target"), "{user:?} {path}: {body}");
        }
        app.down();
    });
}
