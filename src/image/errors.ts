// The error of an image that cannot be served: one printable line that says what failed, why, and what to do.
//
// Thrown by every file of this directory.

import { NbdError } from '../nbd/errors.js';

/** An image cannot be served. `message` is one printable line; it names options as the command line does. */
export class ImageError extends NbdError {
  /** The class's name. */
  override name = 'ImageError';
}

/** The line in which a server says why it failed; it names no next step. */
export class ServerLineError extends ImageError {
  /** The class's name. */
  override name = 'ServerLineError';
}
