"""Routes and endpoints: what a row of the route table is, and how it is compiled to a request handler."""
