export const loader = () => ({ text: "hello from react-router" });
export default function Home({ loaderData }: { loaderData: { text: string } }) {
  return <p>{loaderData.text}</p>;
}
