// Why an image cannot be served: one printable line that says what failed, why, and what to do.
//
// Thrown by every file of this folder.

/** An image, or what is needed to serve it, is not as it must be. `message` is one printable line. */
export class ImageError extends Error {
  override name = 'ImageError';
}
