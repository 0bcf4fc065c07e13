import { SignInForm } from "./form";

export default function SignIn() {
  return (
    <>
      <h1>Sign in</h1>
      <p className="lead">The stand-in for Clerk takes any name, and asks for no password.</p>
      <SignInForm />
    </>
  );
}
