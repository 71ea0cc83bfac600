// The limit of the paths of Unix sockets.

/** Bytes of a path that `struct sockaddr_un` takes, with the zero byte behind it. */
export const LONGEST_UNIX_PATH = 107;
