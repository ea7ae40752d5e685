"""What a plan writes: folded weights and biases, each cast once, and the nodes for what could not move."""
