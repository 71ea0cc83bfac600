// The failures that end a TLS connection in its transmission phase.

/** `message` is one printable line. */
export class TlsError extends Error {
  override name = 'TlsError';
  /** The alert by which the peer is told; undefined when it is the peer that has ended it. */
  readonly alert: number | undefined;

  constructor(message: string, alert?: number) {
    super(message);
    this.alert = alert;
  }

  /** Whether the peer broke the protocol. */
  get breach(): boolean {
    return this.alert !== undefined;
  }
}
