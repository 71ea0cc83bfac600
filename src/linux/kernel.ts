// The version of the kernel, for features that cannot be probed. Pure.

/** Whether a kernel release, such as `6.1.0-25-amd64`, is at least version `major`.`minor`. */
export function isSince(release: string, major: number, minor: number): boolean {
  const [ofMajor = 0, ofMinor = 0] = release.split('.').map((part) => Number.parseInt(part, 10));
  return ofMajor > major || (ofMajor === major && ofMinor >= minor);
}
