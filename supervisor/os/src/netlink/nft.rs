//! Redirection of a private network's outgoing connections (nftables over nfnetlink, linux/netfilter/nf_tables.h).
//!
//! In the words of nft(8):
//!
//! ```text
//! table ip watt {
//!     chain output {
//!         type nat hook output priority -100; policy accept;
//!         meta l4proto tcp ip daddr 127.77.0.0/16 redirect to :<mesh>
//!         meta l4proto tcp ip daddr != 127.0.0.0/8 redirect to :<egress>
//!         meta l4proto != tcp ip daddr 127.77.0.0/16 drop
//!         meta l4proto != tcp ip daddr != 127.0.0.0/8 drop
//!     }
//! }
//! ```
//!
//! A redirected connection arrives at 127.0.0.1; `SO_ORIGINAL_DST` tells where it was meant to go. Because the chain decides
//! before any listener does, the program may itself listen on every port.
//!
//! With the AnyIP route every address is this host's own. What is not TCP would reach the program itself, or nobody, and a sender
//! whose socket is not connected would never hear of that. Dropped on the way out, it is EPERM at once (send(2)).

use std::io;

use nix::sys::socket::SockProtocol;

use super::{
    Message, Socket,
    message::{ACK, APPEND, CREATE, EXCLUSIVE},
};

/// Where connections are redirected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Redirect {
    /// The port on 127.0.0.1 that gets TCP to 127.77.0.0/16.
    pub mesh: u16,
    /// The port on 127.0.0.1 that gets TCP to addresses outside of 127.0.0.0/8.
    pub egress: Option<u16>,
}

/// The first two bytes of the mesh's addresses.
const MESH_PREFIX: &[u8] = &[127, 77];
/// The first byte of the host's own addresses.
const LOOPBACK_PREFIX: &[u8] = &[127];

/// Sets the rules up in this network namespace, all or none.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN here; EOPNOTSUPP, ENOENT or EPROTONOSUPPORT when the kernel has no nftables or cannot load it;
/// EEXIST when the table is there.
pub fn redirect(to: Redirect) -> io::Result<()> {
    let mut batch = Batch::begin();
    batch.add(NEW_TABLE, CREATE | EXCLUSIVE, |message| message.attribute(TABLE_NAME, TABLE));
    batch.add(NEW_CHAIN, CREATE | EXCLUSIVE, chain);
    let mesh = (Compare::Equal, MESH_PREFIX, Some(to.mesh));
    let outside = (Compare::NotEqual, LOOPBACK_PREFIX, to.egress);
    for (compare, prefix, port) in [mesh, outside] {
        if let Some(port) = port {
            batch.add(NEW_RULE, CREATE | APPEND, |message| {
                rule(message, Compare::Equal, (compare, prefix), |list| redirected(list, port))
            });
        }
        batch.add(NEW_RULE, CREATE | APPEND, |message| {
            rule(message, Compare::NotEqual, (compare, prefix), dropped)
        });
    }
    batch.commit()
}

/// Messages that take effect together.
struct Batch {
    bytes: Vec<u8>,
    sequence: u32,
}

impl Batch {
    fn begin() -> Batch {
        let mut batch = Batch { bytes: Vec::new(), sequence: 0 };
        batch.bracket(BATCH_BEGIN);
        batch
    }

    /// Adds a message of the table's family.
    fn add(&mut self, kind: u16, flags: u16, fill: impl FnOnce(Message) -> Message) {
        let message =
            Message::new(SUBSYSTEM << 8 | kind, flags | ACK, self.next()).fixed(&[FAMILY_IP4, 0, 0, 0]);
        self.bytes.extend(fill(message).finish());
    }

    fn commit(mut self) -> io::Result<()> {
        let last = self.sequence;
        self.bracket(BATCH_END);
        let socket = Socket::open(SockProtocol::NetlinkNetFilter)?;
        socket.send(&self.bytes)?;
        // Answers come in order, so an error of an earlier message is seen before the last one's.
        socket.acknowledged(last)
    }

    /// Adds a message that begins or ends the batch. Its "resource" is the subsystem, in network order.
    fn bracket(&mut self, kind: u16) {
        let [high, low] = SUBSYSTEM.to_be_bytes();
        let message = Message::new(kind, 0, self.next()).fixed(&[0, 0, high, low]);
        self.bytes.extend(message.finish());
    }

    fn next(&mut self) -> u32 {
        self.sequence += 1;
        self.sequence
    }
}

/// The chain that sees what this namespace sends, before a route is chosen for good.
fn chain(message: Message) -> Message {
    message
        .attribute(CHAIN_TABLE, TABLE)
        .attribute(CHAIN_NAME, CHAIN)
        .nested(CHAIN_HOOK, |hook| {
            hook.attribute(HOOK_NUMBER, &HOOK_OUTPUT.to_be_bytes())
                .attribute(HOOK_PRIORITY, &PRIORITY_DNAT.to_be_bytes())
        })
        .attribute(CHAIN_TYPE, b"nat\0")
}

#[derive(Clone, Copy)]
enum Compare {
    Equal = 0,
    NotEqual = 1,
}

/// What to do with TCP (or all but TCP) whose destination begins (or does not) with `prefix`.
fn rule(
    message: Message,
    tcp: Compare,
    (compare, prefix): (Compare, &[u8]),
    act: impl FnOnce(Message) -> Message,
) -> Message {
    message.attribute(RULE_TABLE, TABLE).attribute(RULE_CHAIN, CHAIN).nested(RULE_EXPRESSIONS, |list| {
        let list = expression(list, b"meta\0", |meta| {
            meta.attribute(META_DESTINATION, &REGISTER.to_be_bytes())
                .attribute(META_KEY, &KEY_L4PROTO.to_be_bytes())
        });
        let list = compare_register(list, tcp, &[PROTOCOL_TCP]);
        let list = expression(list, b"payload\0", |payload| {
            payload
                .attribute(PAYLOAD_DESTINATION, &REGISTER.to_be_bytes())
                .attribute(PAYLOAD_BASE, &BASE_NETWORK_HEADER.to_be_bytes())
                .attribute(PAYLOAD_OFFSET, &IP4_DESTINATION.to_be_bytes())
                .attribute(PAYLOAD_LENGTH, &u32::try_from(prefix.len()).unwrap_or_default().to_be_bytes())
        });
        act(compare_register(list, compare, prefix))
    })
}

fn redirected(list: Message, port: u16) -> Message {
    let list = expression(list, b"immediate\0", |immediate| {
        immediate
            .attribute(IMMEDIATE_DESTINATION, &REGISTER.to_be_bytes())
            .nested(IMMEDIATE_DATA, |data| data.attribute(DATA_VALUE, &port.to_be_bytes()))
    });
    expression(list, b"redir\0", |redir| redir.attribute(REDIR_PORT_REGISTER, &REGISTER.to_be_bytes()))
}

fn dropped(list: Message) -> Message {
    expression(list, b"immediate\0", |immediate| {
        immediate
            .attribute(IMMEDIATE_DESTINATION, &VERDICT_REGISTER.to_be_bytes())
            .nested(IMMEDIATE_DATA, |data| {
                data.nested(DATA_VERDICT, |verdict| verdict.attribute(VERDICT_CODE, &DROP.to_be_bytes()))
            })
    })
}

fn compare_register(list: Message, compare: Compare, value: &[u8]) -> Message {
    expression(list, b"cmp\0", |cmp| {
        cmp.attribute(CMP_SOURCE, &REGISTER.to_be_bytes())
            .attribute(CMP_OPERATION, &(compare as u32).to_be_bytes())
            .nested(CMP_DATA, |data| data.attribute(DATA_VALUE, value))
    })
}

fn expression(list: Message, name: &[u8], fill: impl FnOnce(Message) -> Message) -> Message {
    list.nested(LIST_ELEMENT, |element| {
        element.attribute(EXPRESSION_NAME, name).nested(EXPRESSION_DATA, fill)
    })
}

const TABLE: &[u8] = b"watt\0";
const CHAIN: &[u8] = b"output\0";

// linux/netfilter/nfnetlink.h
const SUBSYSTEM: u16 = 10; // NFNL_SUBSYS_NFTABLES
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const FAMILY_IP4: u8 = 2; // NFPROTO_IPV4

// linux/netfilter/nf_tables.h. All numbers in these attributes are in network order.
const NEW_TABLE: u16 = 0;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const TABLE_NAME: u16 = 1;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const HOOK_OUTPUT: u32 = 3; // NF_INET_LOCAL_OUT
const PRIORITY_DNAT: i32 = -100; // NF_IP_PRI_NAT_DST
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const LIST_ELEMENT: u16 = 1;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const DROP: u32 = 0; // NF_DROP
const VERDICT_REGISTER: u32 = 0; // NFT_REG_VERDICT
const REGISTER: u32 = 1; // NFT_REG_1
const META_DESTINATION: u16 = 1;
const META_KEY: u16 = 2;
const KEY_L4PROTO: u32 = 16; // NFT_META_L4PROTO
const PROTOCOL_TCP: u8 = 6;
const PAYLOAD_DESTINATION: u16 = 1;
const PAYLOAD_BASE: u16 = 2;
const PAYLOAD_OFFSET: u16 = 3;
const PAYLOAD_LENGTH: u16 = 4;
const BASE_NETWORK_HEADER: u32 = 1; // NFT_PAYLOAD_NETWORK_HEADER
const IP4_DESTINATION: u32 = 16; // RFC 791 §3.1: byte 16 of the header
const CMP_SOURCE: u16 = 1;
const CMP_OPERATION: u16 = 2;
const CMP_DATA: u16 = 3;
const IMMEDIATE_DESTINATION: u16 = 1;
const IMMEDIATE_DATA: u16 = 2;
const REDIR_PORT_REGISTER: u16 = 1; // NFTA_REDIR_REG_PROTO_MIN
