// Which kernel this is, where it matters and cannot be tried. Pure.

/** Whether a kernel's release, such as `6.1.0-25-amd64`, is that of version `major`.`minor` or a newer one. */
export function isSince(release: string, major: number, minor: number): boolean {
  const [ofMajor = 0, ofMinor = 0] = release.split('.').map((part) => Number.parseInt(part, 10));
  return ofMajor > major || (ofMajor === major && ofMinor >= minor);
}
