// The errors that end a TLS connection in the transmission phase.

/** A TLS failure; `message` is one printable line. */
export class TlsError extends Error {
  override name = 'TlsError';
  /** The alert for the peer; undefined if the peer ended the connection. */
  readonly alert: number | undefined;

  constructor(message: string, alert?: number) {
    super(message);
    this.alert = alert;
  }

  /** Whether the peer violated the protocol. */
  get breach(): boolean {
    return this.alert !== undefined;
  }
}
