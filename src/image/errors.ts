// The error of an image that cannot be served: one printable line that says what failed, why, and what to do.
//
// Thrown by every file of this directory.

/** An image cannot be served. `message` is one printable line. */
export class ImageError extends Error {
  override name = 'ImageError';
}
