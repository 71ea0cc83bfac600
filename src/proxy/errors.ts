// The error of a peer that does not keep to the protocol.

/** A client or the server below sends what the proxy cannot read. */
export class ProxyError extends Error {
  override name = 'ProxyError';
}
