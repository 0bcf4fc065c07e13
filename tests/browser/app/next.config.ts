import type { NextConfig } from "next";

const config: NextConfig = {
  turbopack: { root: import.meta.dirname },
  devIndicators: false,
  typescript: { ignoreBuildErrors: true }, // `npm run types` looks for them
  // For the same-origin variant: NEXT_PUBLIC_CLERK_LOGOUT_URL=/
  rewrites: async () => [{ source: "/v1/auth/:path*", destination: `${process.env.LOGOUT_SERVICE}/v1/auth/:path*` }],
};

export default config;
