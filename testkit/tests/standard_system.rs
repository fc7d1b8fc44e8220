//! Standard components: the rest of WASI. A component has access only to what the manifest grants.

use serde_json::json;
use testkit::{Shop, ShopBuilder};

const BOTH: [&str; 2] = ["standard-p2", "standard-p3"];

fn with(keys: &str) -> ShopBuilder {
    BOTH.iter().fold(Shop::standard(), |shop, service| shop.keys(service, keys))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_comes_from_the_manifest_and_not_from_the_host() {
    let shop = with("[service.env]\nGREETING = \"good morning\"").start().await;
    for service in BOTH {
        let answer = shop.get(service, "/environment?name=GREETING").await;
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "good morning"), "{service}");
        assert_eq!(shop.get(service, "/environment?name=PATH").await.status, 404, "{service}");
        assert_eq!(shop.get(service, "/arguments").await.json(), json!([]), "{service}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn guest_output_becomes_log_records_of_the_trace() {
    let shop = Shop::standard().start().await;
    for service in BOTH {
        let answer = shop.get(service, &format!("/print?text={service}")).await;
        for line in [format!("out: {service}"), format!("error: {service}")] {
            let record = shop.collector().wait_for_log(&line, |record| record.body == line.as_str()).await;
            assert_eq!(record.service, service);
            assert_eq!(record.trace_id, answer.trace.to_string(), "{service}: {line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_and_random_numbers_work() {
    let shop = Shop::standard().start().await;
    for service in BOTH {
        let clocks = shop.get(service, "/clocks").await.json();
        assert_eq!(clocks["monotonic"], true, "{service}");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
        let told = u128::from(clocks["now"].as_u64().unwrap());
        assert!(now.abs_diff(told) < 60_000, "{service}: {told} is not {now}");
        let first = shop.get(service, "/random").await.text();
        assert_ne!(first, shop.get(service, "/random").await.text(), "{service}");
        assert_eq!(shop.get(service, "/sleep?ms=5").await.text(), "slept\n", "{service}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_folders_of_service_files_are_accessible() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("greeting.txt"), "from a file").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", folder.path().join("way-out")).unwrap();
    std::os::unix::fs::symlink("/etc", folder.path().join("out")).unwrap();
    let keys = format!("[[service.files]]\nhost = \"{}\"\nguest = \"/data\"", folder.path().display());
    let shop = with(&keys).start().await;
    for service in BOTH {
        let answer = shop.get(service, "/file?path=/data/greeting.txt").await;
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "from a file"), "{service}");
        for path in ["/etc/passwd", "/data/../../../etc/passwd", "greeting.txt", "/data/way-out", "/data/out/passwd"] {
            assert_eq!(shop.get(service, &format!("/file?path={path}")).await.status, 403, "{service}: {path}");
        }
        for path in ["/data/new.txt", "/data/greeting.txt", "/data/way-out"] {
            let written = shop.get(service, &format!("/file?path={path}&write=x")).await;
            assert_eq!(written.status, 403, "{service}: {path}: {}", written.text());
        }
    }
    assert!(!folder.path().join("new.txt").exists());
    assert_eq!(std::fs::read_to_string(folder.path().join("greeting.txt")).unwrap(), "from a file");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_write_folder_can_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display();
    let keys = format!("[[service.files]]\nhost = \"{path}\"\nguest = \"/data\"\naccess = \"read-write\"");
    let shop = with(&keys).start().await;
    for service in BOTH {
        let answer = shop.get(service, &format!("/file?path=/data/{service}&write=kept")).await;
        assert_eq!(answer.status, 200, "{service}: {}", answer.text());
        assert_eq!(std::fs::read_to_string(folder.path().join(service)).unwrap(), "kept", "{service}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn relative_paths_are_in_the_folder_at_the_root() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("greeting.txt"), "from a file").unwrap();
    let keys = format!("[[service.files]]\nhost = \"{}\"\nguest = \"/\"", folder.path().display());
    let shop = with(&keys).start().await;
    for service in BOTH {
        for path in ["/greeting.txt", "greeting.txt", "./greeting.txt"] {
            assert_eq!(
                shop.get(service, &format!("/file?path={path}")).await.text(),
                "from a file",
                "{service}: {path}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_are_not_permitted() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let shop = Shop::standard().start().await;
    for service in BOTH {
        let free = testkit::process::free_address().port();
        for (used, port) in [("connect", port), ("listen", free), ("listen", 0), ("datagram", free), ("datagram", 0)] {
            let answer = shop.get(service, &format!("/socket?use={used}&port={port}")).await;
            let seen = (answer.status.as_u16(), answer.text());
            assert_eq!(seen, (403, "access-denied\n".to_owned()), "{service}: {used} {port}");
        }
        for name in ["localhost", "127.0.0.1", "no-such-host.invalid"] {
            let answer = shop.get(service, &format!("/lookup?name={name}")).await;
            assert_eq!(answer.text(), "access-denied\n", "{service}: {name}");
        }
    }
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "somebody connected");
}
