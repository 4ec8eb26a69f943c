//! The names of errno(3), with the numbers that x86-64 and arm64 share (asm-generic/errno-base.h, errno.h).

/// The names, each at the place of its number. 41 and 58 were never given.
const NAMES: &str = "- EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT ENOTBLK EBUSY \
    EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM \
    ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP - ENOMSG EIDRM ECHRNG EL2NSYNC EL3HLT EL3RST ELNRNG \
    EUNATCH ENOCSI EL2HLT EBADE EBADR EXFULL ENOANO EBADRQC EBADSLT - EBFONT ENOSTR ENODATA ETIME ENOSR ENONET ENOPKG \
    EREMOTE ENOLINK EADV ESRMNT ECOMM EPROTO EMULTIHOP EDOTDOT EBADMSG EOVERFLOW ENOTUNIQ EBADFD EREMCHG ELIBACC \
    ELIBBAD ELIBSCN ELIBMAX ELIBEXEC EILSEQ ERESTART ESTRPIPE EUSERS ENOTSOCK EDESTADDRREQ EMSGSIZE EPROTOTYPE \
    ENOPROTOOPT EPROTONOSUPPORT ESOCKTNOSUPPORT EOPNOTSUPP EPFNOSUPPORT EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL ENETDOWN \
    ENETUNREACH ENETRESET ECONNABORTED ECONNRESET ENOBUFS EISCONN ENOTCONN ESHUTDOWN ETOOMANYREFS ETIMEDOUT \
    ECONNREFUSED EHOSTDOWN EHOSTUNREACH EALREADY EINPROGRESS ESTALE EUCLEAN ENOTNAM ENAVAIL EISNAM EREMOTEIO EDQUOT \
    ENOMEDIUM EMEDIUMTYPE ECANCELED ENOKEY EKEYEXPIRED EKEYREVOKED EKEYREJECTED EOWNERDEAD ENOTRECOVERABLE ERFKILL \
    EHWPOISON";

/// Second names of the same numbers.
const ALIASES: [(&str, &str); 3] =
    [("EWOULDBLOCK", "EAGAIN"), ("EDEADLOCK", "EDEADLK"), ("ENOTSUP", "EOPNOTSUPP")];

/// The number of an error.
pub fn number(name: &str) -> Option<i32> {
    let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, first)| first);
    (0..).zip(numbered()).find(|(_, known)| *known == name && name != "-").map(|(number, _)| number)
}

/// The name of an error's number.
pub fn name(number: i32) -> Option<&'static str> {
    numbered().nth(usize::try_from(number).ok()?).filter(|name| *name != "-")
}

/// Every name.
pub fn names() -> impl Iterator<Item = &'static str> {
    numbered().filter(|name| *name != "-")
}

fn numbered() -> impl Iterator<Item = &'static str> {
    NAMES.split_ascii_whitespace()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_kernel() {
        let known = [
            ("EPERM", 1),
            ("EINVAL", 22),
            ("ENOSYS", 38),
            ("ELOOP", 40),
            ("ENOMSG", 42),
            ("EBADSLT", 57),
            ("EBFONT", 59),
            ("EAFNOSUPPORT", 97),
            ("ECONNREFUSED", 111),
            ("EUCLEAN", 117),
            ("EHWPOISON", 133),
        ];
        for (name, number) in known {
            assert_eq!(super::number(name), Some(number));
            assert_eq!(super::name(number), Some(name));
        }
        assert_eq!(number("ENOTSUP"), Some(95));
        assert_eq!([number("-"), number(""), number("eperm")], [None; 3]);
        assert_eq!([name(0), name(41), name(134), name(-1)], [None; 4]);
    }
}
