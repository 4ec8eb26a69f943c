export const getServerSideProps = async () => ({ props: {} });
export default function Page() { return "hello from next standalone or dev"; }
